/* What libfaketime 0.9 lacks for a wall clock that is put forward or back while processes run. Preloaded before it. */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL /* nanoseconds */
#define LOOK (SECOND / 20)

/* librdkafka's timed waits, as the kernel has them: until the wall clock, wherever it is put meanwhile, has come to the time.
   libfaketime does not know them. */
int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
    for (;;) {
        struct timespec now, look;
        clock_gettime(CLOCK_REALTIME, &now);
        long long left = (until->tv_sec - now.tv_sec) * SECOND + until->tv_nsec - now.tv_nsec;
        if (left <= 0)
            return thrd_timedout;
        clock_gettime(CLOCK_MONOTONIC, &look);
        look.tv_nsec += left < LOOK ? left : LOOK;
        look.tv_sec += look.tv_nsec / SECOND;
        look.tv_nsec %= SECOND;
        int error = pthread_cond_clockwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &look);
        if (error != ETIMEDOUT)
            return error ? thrd_error : thrd_success;
    }
}

/* Python's sleep, by the monotonic clock. libfaketime takes its end for a time of the wall clock: EINVAL. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    return syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
}
