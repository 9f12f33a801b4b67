// How a guest is stopped: the default action of a signal, also where the kernel would not take it.
//
// The first process of a PID namespace gets no default actions: without a handler SIGTERM is dropped, and every
// stop of a pod would wait out its grace period. A guest has no handlers (WASI has no signals), so these exit the process.
//
// This is C, the only C here, because a handler must be able to run at any instruction: in the middle of a guest's busy loop, of
// the compiler, of managed code or of the collector. Managed handlers may not (the runtime aborts when it is entered
// from a handler that interrupted it), and the runtime's own way, a thread that reads signals from a pipe and
// hands them to the thread pool, costs two threads for each container and starts late. A constructor runs before
// the runtime starts, so there is no moment at which SIGTERM is lost.

#include <signal.h>
#include <string.h>
#include <unistd.h>

static void exit_as_killed(int signal_number)
{
    _exit(128 + signal_number);
}

// Sent when the limit that `compile` sets for itself (Confinement.cs) is used up.
static void exit_for_cpu_limit(int signal_number)
{
    static const char message[] = "skiff-run: the limit of CPU time is used up\n";
    (void)signal_number;
    (void)!write(STDERR_FILENO, message, sizeof message - 1);
    _exit(126);
}

static void handle(int signal_number, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigfillset(&action.sa_mask);
    sigaction(signal_number, &action, NULL);
}

__attribute__((constructor)) static void install(void)
{
    static const int stopping[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    sigset_t unblocked;
    sigemptyset(&unblocked);
    for (size_t i = 0; i < sizeof stopping / sizeof *stopping; i++)
    {
        handle(stopping[i], exit_as_killed);
        sigaddset(&unblocked, stopping[i]);
    }

    handle(SIGXCPU, exit_for_cpu_limit);
    sigaddset(&unblocked, SIGXCPU);

    // As process 1 this adopts what `exec`-ed processes leave behind. Nothing here waits for children, so let the kernel reap.
    handle(SIGCHLD, SIG_IGN);

    // A mask is inherited, and what started us may have blocked signals for its own reasons.
    sigprocmask(SIG_UNBLOCK, &unblocked, NULL);
}
