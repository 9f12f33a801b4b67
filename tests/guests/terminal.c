/*
 * Says which of its streams are a terminal, then does what each line of its input asks: "size" tells the terminal's size, "burst" writes
 * 20000 numbered lines and exits with 7 at once, anything else is repeated. At the end of its input it exits with 0.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifndef __wasm__
#include <sys/ioctl.h>
#endif

int main(void) {
  char line[100];
  setvbuf(stdout, NULL, _IOLBF, 4096);
  printf("terminal %d %d %d\n", isatty(0), isatty(1), isatty(2));
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\r\n")] = 0;
    if (!strcmp(line, "burst")) {
      for (int i = 0; i < 20000; i++) printf("burst line %d\n", i);
      fflush(stdout);
      return 7;
    }
#ifndef __wasm__
    struct winsize size;
    if (!strcmp(line, "size") && !ioctl(0, TIOCGWINSZ, &size)) {
      printf("size %dx%d\n", size.ws_col, size.ws_row);
      continue;
    }
#endif
    printf("you said %s\n", line);
  }
  return 0;
}
