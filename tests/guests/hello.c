/* Says hello and how many arguments it got. */
#include <stdio.h>

int main(int argc, char **argv) {
#ifdef __wasm__
  printf("hello from wasm, %d arguments\n", argc);
#else
  printf("hello from native, %d arguments\n", argc);
#endif
  return 0;
}
