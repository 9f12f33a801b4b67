/* Says that it is ready, then waits for ever. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
  puts("ready");
  fflush(stdout);
  for (;;) sleep(1000);
}
