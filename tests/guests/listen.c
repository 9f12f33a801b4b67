/* listen PORT [http]   says "hello from port PORT" to everybody who connects; with "http" as an answer to a request. */
#include <stdio.h>
#include <stdlib.h>
#ifndef __wasm__
#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* Process 1 of a container ignores signals for which it has no handler, and would be waited for until it is killed. */
static void stop(int signal) { _exit(128 + signal); }
#endif

int main(int argc, char **argv) {
#ifndef __wasm__
  signal(SIGTERM, stop);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8080)};
  int on = 1, server = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 10)) {
    perror("listen");
    return 1;
  }
  printf("listening\n");
  fflush(stdout);
  for (int client; (client = accept(server, NULL, NULL)) >= 0; close(client)) {
    char request[4096];
    if (argc > 2 && read(client, request, sizeof request) > 0) dprintf(client, "HTTP/1.0 200 OK\r\n\r\n");
    dprintf(client, "hello from port %d\n", ntohs(address.sin_port));
  }
#endif
  (void)argc, (void)argv;
  return 1;
}
