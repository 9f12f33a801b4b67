/* Says as whom and where it runs, and how often it finds SKIFF in its environment. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
  extern char **environ;
  char folder[200] = "";
  int found = 0;
  for (char **e = environ; *e; e++) found += !strncmp(*e, "SKIFF", 5);
#ifdef __wasm__
  printf("%s %d\n", getcwd(folder, sizeof folder), found);
#else
  printf("%d %d %s %d\n", getuid(), getgid(), getcwd(folder, sizeof folder), found);
#endif
  return 0;
}
