/* http-drain: lets a server of Wasmtime's command end without failing a request that it has accepted.
 *
 * Asked to end (SIGINT), `wasmtime serve` answers what comes on open connections with status 500, keeps its listening socket, and waits for clients
 * to close. This library is loaded with it and closes the gap, by looking at what it does with the sockets that it accepts:
 *
 *   SIGUSR1        no new connections; each response says "connection: close", so that its client goes elsewhere with its next request
 *   SIGUSR1 again  connections on which no request is open are closed
 *
 * Once there is no connection left it raises SIGINT, on which the command ends with 0. Until the first signal nothing is changed, only watched.
 *
 * A connection is used by one thread at a time, and what signals read is atomic. What is not understood (another protocol than HTTP/1, a head
 * that does not come in one piece) is left alone: such a connection is not closed by us.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 1 << 16, MOST_PARTS = 64 };

enum state { NONE, LISTENING, IDLE, OPEN, OPAQUE };          /* OPEN: a request has come and its response is not at its end */
enum framing { HEAD, LENGTH, CHUNKED };                      /* what of the response comes next */
enum chunk { SIZE, EXTENSION, DATA, DATA_END, TRAILER };

struct connection {
    _Atomic uint8_t state;
    uint8_t framing, chunk;
    bool without_body;     /* the request is HEAD */
    uint64_t left;         /* of a body with a length, or of a chunk */
    uint32_t line;         /* how long the trailer's line is */
    _Atomic int epoll;     /* of a listening socket: where it is watched, or 0 */
};

static struct connection connections[MOST_DESCRIPTORS];
static _Atomic int open_connections;
static _Atomic bool draining, closing, refusing, ended;

static struct connection *of(int fd) {
    struct connection *c = fd >= 0 && fd < MOST_DESCRIPTORS ? &connections[fd] : NULL;
    return c && atomic_load_explicit(&c->state, memory_order_relaxed) != NONE ? c : NULL;
}

static bool is_readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static void end_if_done(void) {
    if (atomic_load(&refusing) && atomic_load(&open_connections) == 0 && !atomic_exchange(&ended, true))
        kill(getpid(), SIGINT);
}

/* The kernel refuses from here on; who has connected before is in a queue, and that is empty. The command is not to hear of it: it would
 * take the socket for one that is ready, and try for ever. */
static void refuse(int fd) {
    struct epoll_event unused = {0};
    syscall(SYS_epoll_ctl, atomic_load(&connections[fd].epoll), EPOLL_CTL_DEL, fd, &unused);
    shutdown(fd, SHUT_RD);
    atomic_store(&refusing, true);
    end_if_done();
}

static void asked(int signal) {
    (void)signal;
    int saved = errno;
    bool again = atomic_exchange(&draining, true);
    if (again) atomic_store(&closing, true);
    for (int fd = 0; fd < MOST_DESCRIPTORS; fd++) {
        int state = atomic_load(&connections[fd].state);
        if (state == LISTENING && !atomic_load(&refusing) && (again || !is_readable(fd))) refuse(fd);
        if (state == IDLE && again && !is_readable(fd)) shutdown(fd, SHUT_RD); /* read as the client's end */
    }
    end_if_done();
    errno = saved;
}

__attribute__((constructor)) static void prepare(void) {
    struct sigaction action = {.sa_handler = asked, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
}

/* --- what comes in --- */

int listen(int fd, int backlog) {
    int result = syscall(SYS_listen, fd, backlog);
    int family = 0;
    socklen_t size = sizeof family;
    if (result == 0 && fd < MOST_DESCRIPTORS && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && (family == AF_INET || family == AF_INET6))
        atomic_store(&connections[fd].state, LISTENING);
    return result;
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    struct connection *c = of(fd);
    if (c && c->state == LISTENING && operation == EPOLL_CTL_ADD) atomic_store(&c->epoll, epoll);
    return syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    struct connection *listener = of(fd);
    if (listener && atomic_load(&refusing)) {
        errno = EAGAIN; /* for ever: an error would end the command */
        return -1;
    }
    int accepted = syscall(SYS_accept4, fd, address, size, flags);
    if (!listener || listener->state != LISTENING) return accepted;
    if (accepted >= 0 && accepted < MOST_DESCRIPTORS) {
        struct connection *c = &connections[accepted];
        c->framing = HEAD;
        c->without_body = false;
        atomic_fetch_add(&open_connections, 1);
        atomic_store(&c->state, IDLE);
    } else if (accepted < 0 && errno == EAGAIN && atomic_load(&draining)) {
        refuse(fd);
        errno = EAGAIN;
    }
    return accepted;
}

static void received(int fd, const char *bytes, ssize_t count, int flags) {
    struct connection *c = of(fd);
    if (!c || count <= 0 || (flags & MSG_PEEK) || c->state != IDLE) return;
    c->without_body = count >= 5 && memcmp(bytes, "HEAD ", 5) == 0;
    atomic_store(&c->state, count >= 4 && memcmp(bytes, "PRI ", 4) == 0 ? OPAQUE : OPEN); /* HTTP/2 has its own way to end */
}

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    ssize_t count = syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
    received(fd, buffer, count, flags);
    return count;
}

ssize_t read(int fd, void *buffer, size_t size) {
    ssize_t count = syscall(SYS_read, fd, buffer, size);
    received(fd, buffer, count, 0);
    return count;
}

int close(int fd) {
    struct connection *c = of(fd);
    int state = c ? atomic_exchange(&c->state, NONE) : NONE; /* first: the number may be another's as soon as it is closed */
    int result = syscall(SYS_close, fd);
    if (state == IDLE || state == OPEN || state == OPAQUE) {
        atomic_fetch_sub(&open_connections, 1);
        int saved = errno;
        end_if_done();
        errno = saved;
    }
    return result;
}

/* --- what goes out --- */

static bool has_prefix(const char *line, size_t length, const char *name) {
    return length >= strlen(name) && strncasecmp(line, name, strlen(name)) == 0;
}

/* Reads a response's head. Gives its length, or 0 when it is none that comes in one piece. */
static size_t read_head(struct connection *c, const char *bytes, size_t length, bool *is_last, bool *closes) {
    const char *end = length >= 16 && memcmp(bytes, "HTTP/1.", 7) == 0 ? memmem(bytes, length, "\r\n\r\n", 4) : NULL;
    if (!end) return 0;
    int status = (bytes[9] - '0') * 100 + (bytes[10] - '0') * 10 + (bytes[11] - '0');
    bool chunked = false, has_length = false;
    uint64_t left = 0;
    *closes = false;
    for (const char *line = memmem(bytes, length, "\r\n", 2) + 2; line < end;) {
        const char *next = memmem(line, end + 2 - line, "\r\n", 2);
        size_t size = next - line;
        if (has_prefix(line, size, "content-length:")) {
            has_length = true;
            for (const char *d = line + 15; d < next; d++)
                if (*d >= '0' && *d <= '9') left = left * 10 + (*d - '0');
        } else if (has_prefix(line, size, "transfer-encoding:")) {
            chunked = true;
        } else if (has_prefix(line, size, "connection:")) {
            *closes = true;
        }
        line = next + 2;
    }
    *is_last = status >= 200;
    if (!*is_last) return end + 4 - bytes; /* 100 Continue and the like: another head follows */
    if (c->without_body || status == 204 || status == 304) left = 0, c->framing = LENGTH;
    else if (chunked) c->framing = CHUNKED, c->chunk = SIZE;
    else if (has_length) c->framing = LENGTH;
    else return 0; /* its body ends with the connection */
    c->left = left;
    return end + 4 - bytes;
}

/* Follows a body of chunks (RFC 9112, 7.1). Gives whether it is at its end. */
static bool follow_chunks(struct connection *c, const char *bytes, size_t length) {
    while (length > 0) {
        char byte = *bytes;
        size_t taken = 1;
        switch (c->chunk) {
        case SIZE: {
            int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
            if (digit >= 0) { c->left = c->left * 16 + digit; break; }
            c->chunk = EXTENSION;
        } /* fall through */
        case EXTENSION:
            if (byte == '\n') c->chunk = c->left > 0 ? DATA : TRAILER, c->line = 0;
            break;
        case DATA:
            taken = length < c->left ? length : c->left;
            if ((c->left -= taken) == 0) c->chunk = DATA_END;
            break;
        case DATA_END:
            if (byte == '\n') c->chunk = SIZE, c->left = 0;
            break;
        case TRAILER: /* lines up to an empty one */
            if (byte == '\n' && c->line == 0) return true;
            c->line = byte == '\n' ? 0 : byte == '\r' ? c->line : c->line + 1;
            break;
        }
        bytes += taken, length -= taken;
    }
    return false;
}

/* Takes note of what was sent of a response. */
static void sent(int fd, struct connection *c, const char *bytes, size_t length) {
    if (c->state != OPEN) return;
    if (c->framing == HEAD) {
        bool is_last = true, closes;
        size_t head = read_head(c, bytes, length, &is_last, &closes);
        if (head == 0) { atomic_store(&c->state, OPAQUE); return; }
        bytes += head, length -= head;
        if (!is_last) { if (length > 0) sent(fd, c, bytes, length); return; }
    }
    bool at_end;
    if (c->framing == CHUNKED) at_end = follow_chunks(c, bytes, length);
    else c->left -= length < c->left ? length : c->left, at_end = c->left == 0;
    if (!at_end) return;
    c->framing = HEAD;
    atomic_store(&c->state, IDLE);
    if (atomic_load(&closing) && !is_readable(fd)) shutdown(fd, SHUT_RD);
}

static ssize_t send_parts(int fd, struct iovec *parts, size_t count, int flags) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    return syscall(SYS_sendmsg, fd, &message, flags | MSG_NOSIGNAL);
}

/* Where in a response's head "connection: close" belongs, or 0. */
static size_t place_of_close(struct connection *c, const struct iovec *first) {
    struct connection copy = {.without_body = c->without_body};
    bool is_last = false, closes = false;
    const char *bytes = first->iov_base;
    if (!atomic_load(&draining) || c->state != OPEN || c->framing != HEAD || read_head(&copy, bytes, first->iov_len, &is_last, &closes) == 0 || !is_last || closes) return 0;
    return (const char *)memmem(bytes, first->iov_len, "\r\n", 2) + 2 - bytes;
}

/* Sends what the command sends, with one line more where that is due. The command hears of its own bytes alone. */
static ssize_t respond(int fd, struct connection *c, const struct iovec *parts, size_t count, int flags) {
    static const char line[] = "connection: close\r\n";
    const size_t added = sizeof line - 1;
    struct iovec out[MOST_PARTS + 2];
    if (count == 0 || count > MOST_PARTS) {
        if (c->state == OPEN) atomic_store(&c->state, OPAQUE);
        return send_parts(fd, (struct iovec *)parts, count, flags);
    }
    size_t place = place_of_close(c, parts), n = 0;
    if (place > 0) {
        out[n++] = (struct iovec){parts[0].iov_base, place};
        out[n++] = (struct iovec){(char *)line, added};
        out[n++] = (struct iovec){(char *)parts[0].iov_base + place, parts[0].iov_len - place};
        memcpy(out + n, parts + 1, (count - 1) * sizeof *parts), n += count - 1;
    } else {
        memcpy(out, parts, count * sizeof *parts), n = count;
    }
    ssize_t done = send_parts(fd, out, n, flags);
    if (done > 0 && place > 0) {
        /* Cut off within the line: the command does not know of it, so the rest is ours to send. */
        while ((size_t)done > place && (size_t)done < place + added) {
            struct iovec rest = {(char *)line + (done - place), place + added - done};
            ssize_t more = send_parts(fd, &rest, 1, flags);
            if (more > 0) { done += more; continue; }
            if (errno != EAGAIN && errno != EINTR) break; /* the connection is gone, and the next call will say so */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
        }
        done = (size_t)done >= place + added ? done - (ssize_t)added : (ssize_t)((size_t)done < place ? (size_t)done : place);
    }
    int saved = errno;
    for (ssize_t left = done, i = 0; left > 0; i++) {
        size_t piece = parts[i].iov_len < (size_t)left ? parts[i].iov_len : (size_t)left;
        sent(fd, c, parts[i].iov_base, piece);
        left -= piece;
    }
    errno = saved;
    return done;
}

ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    struct connection *c = of(fd);
    struct iovec part = {(void *)buffer, size};
    return c ? respond(fd, c, &part, 1, flags) : syscall(SYS_sendto, fd, buffer, size, flags, NULL, 0);
}

ssize_t write(int fd, const void *buffer, size_t size) {
    struct connection *c = of(fd);
    struct iovec part = {(void *)buffer, size};
    return c ? respond(fd, c, &part, 1, 0) : syscall(SYS_write, fd, buffer, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct connection *c = of(fd);
    return c && count > 0 ? respond(fd, c, parts, count, 0) : syscall(SYS_writev, fd, parts, count);
}
