/* Says so, then loops without ever calling out. */
#include <stdio.h>

static volatile unsigned long turns;

int main(void) {
  puts("spinning");
  fflush(stdout);
  for (;;) turns++;
}
