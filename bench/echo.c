/*
 * The least that an answer over a Unix socket can cost, to compare the server's register reads with: this program takes one connection,
 * reads the header of each message and then its body, as the protocol demands, and sends back as many bytes as a REGION_READ of 8 bytes
 * has in its reply.
 *
 *   cc -O2 -o echo bench/echo.c && ./echo PATH
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  static uint8_t message[4096];
  if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, argv[1]);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0) {
    perror(argv[1]);
    return 1;
  }
  puts("ready");
  fflush(stdout);
  int client = accept(listener, NULL, NULL);
  for (;;) {
    if (recv(client, message, 16, MSG_WAITALL) != 16) return 0;
    uint32_t size;
    memcpy(&size, message + 4, 4);
    if (size < 16 || size > sizeof message) return 1;
    if (size > 16 && recv(client, message + 16, size - 16, MSG_WAITALL) != size - 16) return 0;
    uint32_t reply = 40, flags = 1;
    memcpy(message + 4, &reply, 4);
    memcpy(message + 8, &flags, 4);
    if (send(client, message, reply, MSG_NOSIGNAL) != reply) return 0;
  }
}
