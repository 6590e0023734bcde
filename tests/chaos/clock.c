/* Preloaded into a program, it shifts the program's time of day by the seconds that the file $CLOCK_OFFSET
   holds as a double, which may change at any moment. Monotonic clocks are left alone, and a wait until a time
   of day is handed to the kernel as the kernel's clock has it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile double *offset;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
    if (file >= 0) close(file);
}

static time_t shift(void) { return offset ? (time_t)*offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}

/* No machine has been up since 1970, so a late time is one of day. */
static struct timespec kernels(const struct timespec *until) {
    struct timespec real = *until;
    if (real.tv_sec > 500000000) real.tv_sec -= shift();
    return real;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until) {
    struct timespec real = kernels(until);
    return REAL(sem_timedwait)(sem, &real);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict lock, const struct timespec *restrict until) {
    struct timespec real = kernels(until);
    return REAL(pthread_mutex_timedlock)(lock, &real);
}

int pthread_cond_timedwait(
    pthread_cond_t *restrict cond, pthread_mutex_t *restrict lock, const struct timespec *restrict until) {
    static __typeof__(&pthread_cond_timedwait) found;
    struct timespec real = kernels(until);
    /* dlsym alone may find the older version of it, which takes another kind of condition. */
    if (!found) found = (__typeof__(found))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!found) found = REAL(pthread_cond_timedwait);
    return found(cond, lock, &real);
}
