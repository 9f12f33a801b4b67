/* Ends by the trap that its first argument names. */
#include <string.h>

static volatile int zero;

/* A division of the result, so that no compiler makes a loop of it. */
__attribute__((noinline)) static int deeper(int depth) { return depth < 0 ? depth : deeper(depth + 1 + zero) / (depth | 1); }

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "unreachable";
  if (!strcmp(kind, "div0")) return (argc + 5) / zero;
  if (!strcmp(kind, "oob")) return *(volatile int *)0x7ffffff0;
  if (!strcmp(kind, "stack")) return deeper(1);
  __builtin_trap();
}
