/*
 * grow [when FILE | child [COUNT SECONDS] | hold MIB]   takes memory until it is killed for it. With "when" it waits first until the file is there.
 * With "child" it is a child that does, or COUNT of them, one every SECONDS; of each it says so, and then it waits for ever. With "hold" it takes
 * so much, and waits for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifndef __wasm__
#include <sys/wait.h>
#endif

static char *volatile last; /* or the compiler does without memory that nobody reads */

static int grow(int most) {
  for (int i = 0; i != most && (last = malloc(1 << 20)); i++) memset(last, 1, 1 << 20);
  return 9;
}

int main(int argc, char **argv) {
#ifndef __wasm__
  if (argc > 1 && !strcmp(argv[1], "child")) {
    for (int left = argc > 3 ? atoi(argv[2]) : 1; left > 0; left--) {
      int status = 0;
      pid_t child = fork();
      if (child == 0) return grow(-1);
      waitpid(child, &status, 0);
      printf("the child ended by signal %d\n", WTERMSIG(status));
      fflush(stdout);
      if (argc > 3) sleep(atoi(argv[3]));
    }
    for (;;) pause();
  }
#endif
  while (argc > 2 && !strcmp(argv[1], "when") && access(argv[2], F_OK)) usleep(10000);
  if (argc > 2 && !strcmp(argv[1], "hold")) {
    (void)grow(atoi(argv[2]));
    for (;;) sleep(1000);
  }
  return grow(-1);
}
