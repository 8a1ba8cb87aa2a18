/* The limit: what the kernel lets a server do that writes every message to every connection by itself.
 *
 * A WebSocket server (RFC 6455) of one thread and one channel: each text message that a client sends goes to all
 * connections as it came, by ONE write() per message per connection. It checks no more than it needs for that.
 *
 *     gcc -O2 -o limit limit.c && ./limit 8000
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 20000, MAX_MESSAGE = 8192, MAX_EVENTS = 512 };
enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

struct connection {
    int fd, place, upgraded;
    size_t held;                    /* bytes of input that wait for the rest of their frame */
    unsigned char input[MAX_MESSAGE];
};

static struct connection *connections[MAX_CONNECTIONS];
static int connected;
static int epoll;

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* — the handshake: Sec-WebSocket-Accept is base64(sha1(key + GUID)) — */

static uint32_t rotate(uint32_t x, int n) {
    return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t state[5], const unsigned char *block) {
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t mixed = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                  : (b ^ c ^ d) + 0xCA62C1D6;
        uint32_t next = rotate(a, 5) + mixed + e + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* SHA-1 of a text shorter than two blocks less their tail. */
static void sha1(const char *text, size_t size, unsigned char digest[20]) {
    unsigned char padded[128] = {0};
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    size_t total = size + 9 > 64 ? 128 : 64;
    memcpy(padded, text, size);
    padded[size] = 0x80;
    padded[total - 2] = size * 8 >> 8;
    padded[total - 1] = size * 8;
    for (size_t at = 0; at < total; at += 64)
        sha1_block(state, padded + at);
    for (int i = 0; i < 20; i++)
        digest[i] = state[i / 4] >> (24 - 8 * (i % 4));
}

static void base64(const unsigned char digest[20], char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 28; i++) {
        int bit = 6 * i, at = bit / 8, shift = 10 - bit % 8;
        uint32_t pair = (at < 20 ? digest[at] << 8 : 0) | (at + 1 < 20 ? digest[at + 1] : 0);
        out[i] = letters[pair >> shift & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

/* The size of the request once it is complete and answered, 0 while it is not, -1 if it is no upgrade. */
static int upgrade(int fd, char *request) {
    static const char name[] = "sec-websocket-key: ", guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char *end = strstr(request, "\r\n\r\n"), *key, text[128], accept[29], answer[256];
    unsigned char digest[20];
    if (!end)
        return 0;
    key = strcasestr(request, name);
    if (!key || key > end)
        return -1;
    int size = snprintf(text, sizeof text, "%.24s%s", key + sizeof name - 1, guid);
    sha1(text, size, digest);
    base64(digest, accept);
    size = snprintf(answer, sizeof answer,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Accept: %s\r\n\r\n",
                    accept);
    return write(fd, answer, size) == size ? (int)(end + 4 - request) : -1;
}

/* — frames — */

static void leave(struct connection *gone) {
    connections[gone->place] = connections[--connected];
    connections[gone->place]->place = gone->place;
    close(gone->fd);
    free(gone);
}

/* One write; only a client whose socket is full costs more. */
static void send_frame(int fd, const unsigned char *frame, size_t size) {
    ssize_t sent;
    while ((sent = write(fd, frame, size)) != (ssize_t)size) {
        struct pollfd full = {.fd = fd, .events = POLLOUT};
        if (sent < 0 && errno != EAGAIN)
            return; /* its end is read soon */
        if (sent > 0)
            frame += sent, size -= sent;
        poll(&full, 1, -1);
    }
}

static size_t put_head(unsigned char *frame, int opcode, size_t size) {
    frame[0] = 0x80 | opcode;
    if (size < 126) {
        frame[1] = size;
        return 2;
    }
    frame[1] = 126, frame[2] = size >> 8, frame[3] = size;
    return 4;
}

static void broadcast(const unsigned char *payload, size_t size) {
    static unsigned char frame[MAX_MESSAGE + 4];
    size_t head = put_head(frame, TEXT, size);
    memcpy(frame + head, payload, size);
    for (int i = 0; i < connected; i++)
        send_frame(connections[i]->fd, frame, head + size);
}

/* The size of the frame that begins the input, 0 while it is not whole, -1 if the client is to be closed. */
static int take_frame(struct connection *from, unsigned char *input, size_t held) {
    if (held < 6)
        return 0;
    size_t size = input[1] & 0x7F, head = 2;
    int opcode = input[0] & 0x0F;
    if (size == 126)
        size = input[2] << 8 | input[3], head = 4;
    if (!(input[0] & 0x80) || !(input[1] & 0x80) || size == 127 || head + 4 + size > MAX_MESSAGE)
        return -1; /* a fragment, unmasked, or larger than is ever sent here */
    if (held < head + 4 + size)
        return 0;
    unsigned char *mask = input + head, *payload = mask + 4;
    for (size_t i = 0; i < size; i++)
        payload[i] ^= mask[i & 3];
    if (opcode == TEXT)
        broadcast(payload, size);
    if (opcode == PING) {
        unsigned char frame[MAX_MESSAGE + 4];
        size_t start = put_head(frame, PONG, size);
        memcpy(frame + start, payload, size);
        send_frame(from->fd, frame, start + size);
    }
    return opcode == CLOSE ? -1 : (int)(head + 4 + size);
}

static void receive(struct connection *from) {
    ssize_t size = read(from->fd, from->input + from->held, MAX_MESSAGE - 1 - from->held);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN)
            leave(from);
        return;
    }
    from->held += size;
    size_t used = 0;
    int taken;
    do {
        unsigned char *rest = from->input + used;
        from->input[from->held] = 0;
        taken = from->upgraded ? take_frame(from, rest, from->held - used) : upgrade(from->fd, (char *)rest);
        if (taken > 0)
            from->upgraded = 1, used += taken;
    } while (taken > 0 && used < from->held);
    if (taken < 0) {
        leave(from);
        return;
    }
    from->held -= used;
    memmove(from->input, from->input + used, from->held);
}

static void welcome(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *new = connected < MAX_CONNECTIONS ? calloc(1, sizeof *new) : NULL;
        if (!new) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        new->fd = fd;
        new->place = connected;
        connections[connected++] = new;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = new};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096))
        die("listen");
    return fd;
}

int main(int count, char **arguments) {
    struct epoll_event events[MAX_EVENTS];
    struct rlimit files;
    if (count != 2) {
        fprintf(stderr, "usage: limit PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = listen_on(atoi(arguments[1]));
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        die("epoll");
    for (;;) {
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr)
                receive(events[i].data.ptr);
            else
                welcome(listener);
    }
}
