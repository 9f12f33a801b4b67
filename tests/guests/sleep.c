/* Says that it is ready, then waits for ever. */
#include <stdio.h>
#include <unistd.h>
#ifndef __wasm__
#include <signal.h>

/* Process 1 of a container ignores signals for which it has no handler, and would be waited for until it is killed. */
static void stop(int signal) { _exit(128 + signal); }
#endif

int main(void) {
#ifndef __wasm__
  signal(SIGTERM, stop);
#endif
  puts("ready");
  fflush(stdout);
  for (;;) sleep(1000);
}
