/* Copies its input to its output. */
#include <unistd.h>

int main(void) {
  static char block[65536];
  for (ssize_t count; (count = read(0, block, sizeof block)) > 0;)
    for (ssize_t done = 0, wrote; done < count; done += wrote)
      if ((wrote = write(1, block + done, count - done)) <= 0) return 1;
  return 0;
}
