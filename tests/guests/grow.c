/*
 * grow [child [COUNT SECONDS]]   takes memory until it is killed for it. With "child" it is a child that does, or COUNT of them, one every
 * SECONDS; of each it says so, and then it waits for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef __wasm__
#include <sys/wait.h>
#include <unistd.h>
#endif

static char *volatile last; /* or the compiler does without memory that nobody reads */

static int grow(void) {
  while ((last = malloc(1 << 20))) memset(last, 1, 1 << 20);
  return 9;
}

int main(int argc, char **argv) {
#ifndef __wasm__
  if (argc > 1 && !strcmp(argv[1], "child")) {
    for (int left = argc > 3 ? atoi(argv[2]) : 1; left > 0; left--) {
      int status = 0;
      pid_t child = fork();
      if (child == 0) return grow();
      waitpid(child, &status, 0);
      printf("the child ended by signal %d\n", WTERMSIG(status));
      fflush(stdout);
      if (argc > 3) sleep(atoi(argv[3]));
    }
    for (;;) pause();
  }
#endif
  (void)argc, (void)argv;
  return grow();
}
