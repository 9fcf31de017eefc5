/* The tunnel that tutorials build, for comparison: one thread that copies between a TUN device and a TCP connection, each frame behind its length
 * in two bytes, big-endian, without any offload.
 *
 *   frames-copy DEVICE listen PORT | frames-copy DEVICE ADDRESS PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void read_all(int fd, unsigned char *to, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t count = read(fd, to + done, length - done);
    if (count <= 0) fail("read");
    done += (size_t)count;
  }
}

static void write_all(int fd, const unsigned char *from, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t count = write(fd, from + done, length - done);
    if (count <= 0) fail("write");
    done += (size_t)count;
  }
}

int main(int argc, char **argv) {
  static unsigned char frame[2 + 65536];
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  struct sockaddr_in address = {.sin_family = AF_INET};
  int on = 1;

  if (argc != 4) return 2;
  int tun = open("/dev/net/tun", O_RDWR);
  if (tun < 0) fail("open /dev/net/tun");
  strncpy(request.ifr_name, argv[1], IFNAMSIZ - 1);
  if (ioctl(tun, TUNSETIFF, &request) < 0) fail("TUNSETIFF");

  int peer = socket(AF_INET, SOCK_STREAM, 0);
  address.sin_port = htons((unsigned short)atoi(argv[3]));
  if (strcmp(argv[2], "listen") == 0) {
    setsockopt(peer, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(peer, (struct sockaddr *)&address, sizeof address) < 0 || listen(peer, 1) < 0) fail("listen");
    peer = accept(peer, NULL, NULL);
    if (peer < 0) fail("accept");
  } else {
    inet_pton(AF_INET, argv[2], &address.sin_addr);
    while (connect(peer, (struct sockaddr *)&address, sizeof address) < 0) {
      close(peer);
      usleep(50000);
      peer = socket(AF_INET, SOCK_STREAM, 0);
    }
  }
  setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

  struct pollfd ready[2] = {{.fd = tun, .events = POLLIN}, {.fd = peer, .events = POLLIN}};
  for (;;) {
    if (poll(ready, 2, -1) < 0) fail("poll");
    if (ready[0].revents) {
      ssize_t length = read(tun, frame + 2, 65536);
      if (length < 0) fail("read tun");
      frame[0] = (unsigned char)(length >> 8);
      frame[1] = (unsigned char)length;
      write_all(peer, frame, 2 + (size_t)length);
    }
    if (ready[1].revents) {
      read_all(peer, frame, 2);
      size_t length = (size_t)frame[0] << 8 | frame[1];
      read_all(peer, frame + 2, length);
      if (write(tun, frame + 2, length) < 0 && errno != EIO && errno != EINVAL) fail("write tun");
    }
  }
}
