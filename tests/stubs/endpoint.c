/* InvokeEndpoint of a multi-model endpoint for benchmarks, in C so that a client is the limit and not the endpoint.

   It behaves as tests/stubs/models.py does, where latency, failures and the loading of models are explained, and takes
   the same settings: POST /_stub/behave, /_stub/clear, /_stub/counted. Every other request is an InvokeEndpoint. It
   knows bodies with a Content-Length and no pipelining. One thread; timers are exact to some microseconds, where
   those of an event loop in Python are late by up to a millisecond.

   endpoint <file of key and certificate>; prints its ports on loopback as JSON: [over TLS, over plain HTTP]. */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 16384, MODELS = 8192, NAME = 256, EVENTS = 16, READ = 1 << 16 };

static const char FAILED[] =
    "x-amzn-RequestId: 4f7a2c1e-0f57-4d5b-9f0e-8a1f9b1c2d3e\r\nx-amzn-ErrorType: %s:\r\n"
    "Content-Type: application/json\r\n";
static const char SERVED[] =
    "x-amzn-RequestId: 4f7a2c1e-0f57-4d5b-9f0e-8a1f9b1c2d3e\r\nx-Amzn-Invoked-Production-Variant: all\r\n"
    "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/csv\r\n";

typedef enum { READING, WAITING, SERVING } State; /* WAITING: for a model that loads */
typedef enum { ANSWER, GIVE_UP, LOADED } Kind;
typedef enum { ABSENT, QUEUED, LOADING, WARM } Stage;

typedef struct {
    bool open;
    SSL *ssl;
    State state;
    unsigned request; /* number of the current request: a timer of an earlier one is void */
    char *in;
    size_t held, room, head, body;
    char *out;
    size_t unsent, sent, out_room;
    double began;
    int model;
} Connection;

typedef struct {
    char name[NAME];
    Stage stage;
    unsigned long order; /* QUEUED: since when; WARM: last used */
} Model;

typedef struct {
    double at;
    Kind kind;
    int who; /* a connection or a model */
    unsigned of; /* the connection's request, or the epoch of the models */
} Timer;

static Connection connections[CONNECTIONS];
static int highest;
static Model models[MODELS];
static int model_count;
static unsigned epoch;
static unsigned long ticks;
static Timer *timers;
static size_t timer_count, timer_room;
static int poller;
static SSL_CTX *tls;

static struct { double latency, spread, throttled, unavailable, load_seconds, hold_seconds; int capacity; size_t answer_bytes; } settings;
static struct { long invoke, answered, throttled, unavailable, not_ready, evicted, loaded, most; double seconds; } counts;
static long requests, on_the_way;

static double seconds_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double now(void) { return seconds_of(CLOCK_MONOTONIC); }

static void *grown(void *old, size_t *room, size_t wanted, size_t each) {
    if (wanted <= *room) return old;
    while (*room < wanted) *room = *room ? *room * 2 : 256;
    void *larger = realloc(old, *room * each);
    if (!larger) abort();
    return larger;
}

/* Timers: a binary heap. */

static void begin_timer(double seconds, Kind kind, int who, unsigned of) {
    timers = grown(timers, &timer_room, timer_count + 1, sizeof *timers);
    Timer timer = {now() + seconds, kind, who, of};
    size_t index = timer_count++;
    for (; index && timers[(index - 1) / 2].at > timer.at; index = (index - 1) / 2) timers[index] = timers[(index - 1) / 2];
    timers[index] = timer;
}

static Timer first_timer(void) {
    Timer first = timers[0], last = timers[--timer_count];
    size_t index = 0;
    for (size_t child = 1; child < timer_count; child = 2 * index + 1) {
        if (child + 1 < timer_count && timers[child + 1].at < timers[child].at) child++;
        if (timers[child].at >= last.at) break;
        timers[index] = timers[child];
        index = child;
    }
    timers[index] = last;
    return first;
}

/* Connections */

static void close_connection(int fd) {
    Connection *peer = &connections[fd];
    if (peer->state == SERVING) on_the_way--;
    if (peer->ssl) SSL_free(peer->ssl);
    ERR_clear_error();
    peer->ssl = NULL;
    peer->open = false;
    peer->state = READING;
    peer->request++;
    peer->held = peer->unsent = peer->sent = 0;
    close(fd);
}

/* Whether the connection is still of use after an operation that did not succeed. */
static bool is_blocked(Connection *peer, int result) {
    if (!peer->ssl) return result < 0 && (errno == EAGAIN || errno == EINTR);
    int error = SSL_get_error(peer->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static void watch(int fd, bool writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
}

static void flush(int fd, bool was_blocked) {
    Connection *peer = &connections[fd];
    while (peer->unsent) {
        char *rest = peer->out + peer->sent;
        int sent = peer->ssl ? SSL_write(peer->ssl, rest, (int)peer->unsent) : (int)send(fd, rest, peer->unsent, MSG_NOSIGNAL);
        if (sent <= 0) {
            if (!is_blocked(peer, sent)) close_connection(fd);
            else if (!was_blocked) watch(fd, true);
            return;
        }
        peer->sent += (size_t)sent;
        peer->unsent -= (size_t)sent;
    }
    peer->sent = 0;
    if (was_blocked) watch(fd, false);
}

static char *reserved(Connection *peer, size_t size) {
    peer->out = grown(peer->out, &peer->out_room, size, 1);
    return peer->out;
}

/* Forget the request that was answered. */
static void done(Connection *peer) {
    size_t used = peer->head + peer->body;
    peer->held -= used;
    memmove(peer->in, peer->in + used, peer->held);
    peer->head = peer->body = 0;
    peer->state = READING;
    peer->request++;
}

static void reply(int fd, const char *status, const char *headers, const char *body) {
    Connection *peer = &connections[fd];
    size_t size = strlen(body), most = strlen(status) + strlen(headers) + size + 64;
    peer->unsent = (size_t)snprintf(
        reserved(peer, most), most, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers, size, body);
    done(peer);
    flush(fd, false);
}

static void refuse(int fd, long *count, const char *status, const char *code, const char *message) {
    char headers[256], body[128];
    ++*count;
    snprintf(headers, sizeof headers, FAILED, code);
    snprintf(body, sizeof body, "{\"Message\": \"%s\"}", message);
    reply(fd, status, headers, body);
}

/* Answer with the first bytes of each line of the request. */
static void answer(int fd) {
    Connection *peer = &connections[fd];
    on_the_way--;
    counts.seconds += now() - peer->began;
    counts.answered++;
    const char *line = peer->in + peer->head, *end = line + peer->body;
    char *out = reserved(peer, sizeof SERVED + 64 + peer->body);
    char *rows = out + sizeof SERVED + 64, *written = rows; /* behind the longest head, moved to it below */
    while (line <= end) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((next ? next : end) - line);
        size = size < settings.answer_bytes ? size : settings.answer_bytes;
        memcpy(written, line, size);
        written += size;
        if (!next) break;
        *written++ = '\n';
        line = next + 1;
    }
    size_t size = (size_t)(written - rows);
    size_t head = (size_t)sprintf(out, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n", SERVED, size);
    memmove(out + head, rows, size);
    peer->unsent = head + size;
    done(peer);
    flush(fd, false);
}

static void serve(int fd) {
    Connection *peer = &connections[fd];
    peer->state = SERVING;
    peer->began = now();
    if (++on_the_way > counts.most) counts.most = on_the_way;
    if (settings.latency > 0)
        begin_timer(settings.latency * (1 + settings.spread * (2 * drand48() - 1)), ANSWER, fd, peer->request);
    else
        answer(fd);
}

/* Models */

static int model_named(const char *name, size_t size) {
    size = size < NAME - 1 ? size : NAME - 1;
    for (int model = 0; model < model_count; model++)
        if (!strncmp(models[model].name, name, size) && !models[model].name[size]) return model;
    if (model_count == MODELS) abort();
    memcpy(models[model_count].name, name, size);
    return model_count++;
}

static int oldest(Stage stage) {
    int found = -1;
    for (int model = 0; model < model_count; model++)
        if (models[model].stage == stage && (found < 0 || models[model].order < models[found].order)) found = model;
    return found;
}

static void load_next(void) {
    for (int next; (next = oldest(QUEUED)) >= 0;) {
        int loading = 0, warm = 0;
        for (int model = 0; model < model_count; model++) {
            loading += models[model].stage == LOADING;
            warm += models[model].stage == WARM;
        }
        if (loading >= settings.capacity) return;
        if (loading + warm >= settings.capacity) {
            models[oldest(WARM)].stage = ABSENT;
            counts.evicted++;
        }
        models[next].stage = LOADING;
        counts.loaded++;
        begin_timer(settings.load_seconds, LOADED, next, epoch);
    }
}

static void not_ready(int fd) {
    refuse(fd, &counts.not_ready, "429 Other", "ModelNotReadyException", "The model is loading, retry your request");
}

static void loaded(int model) {
    models[model].stage = WARM;
    models[model].order = ++ticks;
    for (int fd = 0; fd <= highest; fd++)
        if (connections[fd].state == WAITING && connections[fd].model == model) serve(fd);
    load_next();
}

static void wait_for(int fd, int model) {
    Connection *peer = &connections[fd];
    if (models[model].stage == ABSENT) {
        models[model].stage = QUEUED;
        models[model].order = ++ticks;
        load_next();
    }
    if (settings.hold_seconds <= 0) {
        not_ready(fd);
        return;
    }
    peer->state = WAITING;
    peer->model = model;
    begin_timer(settings.hold_seconds, GIVE_UP, fd, peer->request);
}

static void expire(Timer timer) {
    Connection *peer = &connections[timer.who];
    if (timer.kind == LOADED) {
        if (timer.of == epoch) loaded(timer.who);
    } else if (timer.of == peer->request) {
        if (timer.kind == ANSWER) answer(timer.who);
        else if (peer->state == WAITING) not_ready(timer.who);
    }
}

/* Requests */

/* A header's value, up to the end of its line; NULL when there is none. */
static const char *header(const Connection *peer, const char *name) {
    const char *line = peer->in, *end = peer->in + peer->head;
    size_t size = strlen(name);
    while ((line = memchr(line, '\n', (size_t)(end - line))) && ++line + size < end) {
        if (strncasecmp(line, name, size)) continue;
        line += size;
        return line + strspn(line, " ");
    }
    return NULL;
}

static double number(const char *body, const char *name) {
    const char *found = strstr(body, name);
    return found ? strtod(found + strlen(name), NULL) : 0; /* null is 0 as well */
}

static void behave(const char *body) {
    settings.latency = number(body, "\"latency\": ");
    settings.spread = number(body, "\"spread\": ");
    settings.answer_bytes = (size_t)number(body, "\"answer_bytes\": ");
    settings.throttled = number(body, "\"throttled\": ");
    settings.unavailable = number(body, "\"unavailable\": ");
    settings.capacity = (int)number(body, "\"capacity\": ");
    settings.load_seconds = number(body, "\"load_seconds\": ");
    settings.hold_seconds = number(body, "\"hold_seconds\": ");
    memset(models, 0, sizeof models);
    model_count = 0;
    epoch++;
    srand48(7); /* the same failures in every run */
}

static void control(int fd, const char *what) {
    char text[512] = "{}";
    Connection *peer = &connections[fd];
    if (!strncmp(what, "behave ", 7)) {
        char body[1024] = "";
        memcpy(body, peer->in + peer->head, peer->body < sizeof body ? peer->body : sizeof body - 1);
        behave(body);
    } else if (!strncmp(what, "clear ", 6)) {
        memset(&counts, 0, sizeof counts);
    } else {
        snprintf(text, sizeof text,
            "{\"counts\": {\"invoke\": %ld, \"answered\": %ld, \"ThrottlingException\": %ld, \"ServiceUnavailable\": %ld, "
            "\"ModelNotReadyException\": %ld, \"evicted\": %ld, \"loaded\": %ld, \"most in flight\": %ld}, "
            "\"seconds\": %.6f, \"requests\": %ld, \"cpu\": %.6f}",
            counts.invoke, counts.answered, counts.throttled, counts.unavailable, counts.not_ready, counts.evicted,
            counts.loaded, counts.most, counts.seconds, requests, seconds_of(CLOCK_PROCESS_CPUTIME_ID));
    }
    reply(fd, "200 OK", "Content-Type: application/json\r\n", text);
}

static void invoke(int fd) {
    Connection *peer = &connections[fd];
    requests++;
    counts.invoke++;
    if (settings.throttled > 0 || settings.unavailable > 0) {
        double drawn = drand48();
        if (drawn < settings.throttled) {
            refuse(fd, &counts.throttled, "429 Other", "ThrottlingException", "Rate exceeded");
            return;
        }
        if (drawn < settings.throttled + settings.unavailable) {
            refuse(fd, &counts.unavailable, "503 Other", "ServiceUnavailable", "try again");
            return;
        }
    }
    if (!settings.capacity) {
        serve(fd);
        return;
    }
    const char *name = header(peer, "x-amzn-sagemaker-target-model:");
    int model = model_named(name ? name : "", name ? strcspn(name, "\r") : 0);
    if (models[model].stage == WARM) {
        models[model].order = ++ticks;
        serve(fd);
    } else {
        wait_for(fd, model);
    }
}

/* Take the next request, once it is there as a whole. */
static void take(int fd) {
    Connection *peer = &connections[fd];
    if (peer->state != READING || peer->unsent) return;
    if (!peer->head) {
        char *end = memmem(peer->in, peer->held, "\r\n\r\n", 4);
        if (!end) return;
        peer->head = (size_t)(end - peer->in) + 4;
        const char *length = header(peer, "content-length:");
        peer->body = length ? strtoul(length, NULL, 10) : 0;
    }
    if (peer->held < peer->head + peer->body) return;
    if (!strncmp(peer->in, "POST /_stub/", 12)) control(fd, peer->in + 12);
    else invoke(fd);
}

static void readable(int fd) {
    Connection *peer = &connections[fd];
    while (peer->open) {
        peer->in = grown(peer->in, &peer->room, peer->held + READ, 1);
        char *end = peer->in + peer->held;
        int size = peer->ssl ? SSL_read(peer->ssl, end, READ) : (int)recv(fd, end, READ, 0);
        if (size <= 0) {
            if (!is_blocked(peer, size)) close_connection(fd);
            return;
        }
        peer->held += (size_t)size;
        take(fd);
        if (size < READ && !(peer->open && peer->ssl && SSL_has_pending(peer->ssl))) return; /* epoll reports the rest */
    }
}

static void accept_all(int listener, bool over_tls) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= CONNECTIONS) abort();
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Connection *peer = &connections[fd];
        peer->open = true;
        peer->head = peer->body = 0;
        highest = fd > highest ? fd : highest;
        if (over_tls) {
            peer->ssl = SSL_new(tls);
            SSL_set_fd(peer->ssl, fd);
            SSL_set_accept_state(peer->ssl);
        }
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listening(int *port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)
        || getsockname(listener, (struct sockaddr *)&address, &size)) abort();
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    *port = ntohs(address.sin_port);
    return listener;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1UL); /* nanosecond; 50 microseconds otherwise */
    tls = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(tls, 1);
    if (argc != 2 || SSL_CTX_use_certificate_chain_file(tls, argv[1]) != 1
        || SSL_CTX_use_PrivateKey_file(tls, argv[1], SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    settings.answer_bytes = 16;
    int secure_port, plain_port, secure = listening(&secure_port), plain = listening(&plain_port);
    printf("[%d, %d]\n", secure_port, plain_port);
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        struct timespec left = {0, 0};
        double wait = timer_count ? timers[0].at - now() : 0;
        if (wait > 0) left = (struct timespec){(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
        int ready = epoll_pwait2(poller, events, EVENTS, timer_count ? &left : NULL, NULL);
        for (int event = 0; event < ready; event++) {
            int fd = events[event].data.fd;
            if (fd == secure || fd == plain) {
                accept_all(fd, fd == secure);
                continue;
            }
            if (connections[fd].open && events[event].events & EPOLLOUT) flush(fd, true);
            if (connections[fd].open && events[event].events & ~(uint32_t)EPOLLOUT) readable(fd);
        }
        for (double time = now(); timer_count && timers[0].at <= time;) expire(first_timer());
    }
}
