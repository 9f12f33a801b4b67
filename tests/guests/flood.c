/*
 * Writes as many MiB as its first argument says, of bytes that look random: x = x * 1103515245 + 12345, of which bits 16-23, from x = 1.
 * With a second argument it waits first until that file is there.
 */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  static unsigned char block[65536];
  uint32_t x = 1;
  while (argc > 2 && access(argv[2], F_OK)) usleep(20000);
  for (int left = (argc > 1 ? atoi(argv[1]) : 1) * 16; left > 0; left--) {
    for (size_t i = 0; i < sizeof block; i++) {
      x = x * 1103515245u + 12345u;
      block[i] = x >> 16;
    }
    for (ssize_t done = 0, wrote; done < (ssize_t)sizeof block; done += wrote)
      if ((wrote = write(1, block + done, sizeof block - done)) <= 0) return 1;
  }
  return 0;
}
