/*
 * Round trips of register reads as a client in C sees them: REGION_READ of the 8 bytes of MMIO_VERSION, one at a time, or answers of the
 * echo program in their place. Prints the median and the 99th percentile in nanoseconds.
 *
 *   cc -O2 -o ping bench/ping.c && ./ping PATH COUNT [version]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int fd;
static uint8_t message[4096];

static void put(int at, uint64_t value, int bytes) { memcpy(message + at, &value, bytes); }

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int exchange(uint32_t size) {
  uint32_t reply;
  if (send(fd, message, size, MSG_NOSIGNAL) != size || recv(fd, message, 16, MSG_WAITALL) != 16) return -1;
  memcpy(&reply, message + 4, 4);
  if (reply < 16 || reply > sizeof message) return -1;
  if (reply > 16 && recv(fd, message + 16, reply - 16, MSG_WAITALL) != reply - 16) return -1;
  return message[8] & 0x20 ? -1 : 0;
}

static int order(const void *a, const void *b) { return *(uint64_t *)a < *(uint64_t *)b ? -1 : *(uint64_t *)a > *(uint64_t *)b; }

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (argc < 3 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, argv[1]);
  int count = atoi(argv[2]);
  uint64_t *times = calloc(count, sizeof *times);
  fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    perror(argv[1]);
    return 1;
  }
  if (argc > 3) {
    put(0, 1, 2), put(2, 1, 2), put(4, 20, 4), put(8, 0, 8), put(16, 0, 4); /* VERSION 0.0 */
    if (exchange(20) < 0) return 1;
    put(0, 2, 2), put(2, 10, 2), put(4, 34, 4), put(8, 0, 8), put(16, 4, 8), put(24, 7, 4), put(28, 2, 4), put(32, 6, 2); /* memory space on */
    if (exchange(34) < 0) return 1;
  }
  for (int i = -count / 10; i < count; i++) {
    uint64_t from = now();
    put(0, i, 2), put(2, 9, 2), put(4, 32, 4), put(8, 0, 8), put(16, 0x210, 8), put(24, 0, 4), put(28, 8, 4);
    if (exchange(32) < 0) return 1;
    if (i >= 0) times[i] = now() - from;
  }
  qsort(times, count, sizeof *times, order);
  printf("%llu %llu\n", (unsigned long long)times[count / 2], (unsigned long long)times[count * 99 / 100]);
  return 0;
}
