/* Ends by the trap that its first argument names. */
#include <string.h>

static volatile int zero;

static int deeper(volatile char *above) {
  volatile char here[4096];
  here[0] = above[0];
  return deeper(here) + here[0];
}

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "unreachable";
  char start[1] = {1};
  if (!strcmp(kind, "div0")) return 1 / zero;
  if (!strcmp(kind, "oob")) return *(volatile int *)0x7ffffff0;
  if (!strcmp(kind, "stack")) return deeper(start);
  __builtin_trap();
}
