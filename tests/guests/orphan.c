/* Leaves a child behind that runs for ever, and ends. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
#ifndef __wasm__
  if (fork() == 0)
    for (;;) pause();
#endif
  printf("left\n");
  return 0;
}
