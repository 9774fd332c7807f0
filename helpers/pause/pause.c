// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// pause holds a pod's namespaces: it does nothing, reaps the orphans of a shared PID namespace, and leaves on SIGTERM or
// SIGINT. It has no C library: one page of code and one of stack is all that a pod pays for it.
//
// The signals are blocked and then waited for. Blocked signals are queued even for process 1, for which the kernel
// otherwise drops every signal that has no handler.

#define SIGINT 2
#define SIGTERM 15
#define SIGCHLD 17
#define SIG_BLOCK 0
#define WNOHANG 1

#if defined(__x86_64__)

enum { SYS_rt_sigprocmask = 14, SYS_exit_group = 231, SYS_wait4 = 61, SYS_rt_sigtimedwait = 128 };

static long call(long number, long a, long b, long c, long d) {
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
	                 : "rcx", "r11", "memory");
	return result;
}

// The kernel enters with an aligned stack and no return address; nothing here takes arguments.
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tcall run\n");

#elif defined(__aarch64__)

enum { SYS_rt_sigprocmask = 135, SYS_exit_group = 94, SYS_wait4 = 260, SYS_rt_sigtimedwait = 137 };

static long call(long number, long a, long b, long c, long d) {
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tbl run\n");

#else
#error "pause: no system call sequence for this architecture"
#endif

#define BIT(signal) (1ul << ((signal)-1))

__attribute__((noreturn, used)) void run(void) {
	unsigned long set = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);

	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof set);
	for (;;) {
		long signal = call(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof set);

		if (signal == SIGINT || signal == SIGTERM)
			for (;;)
				call(SYS_exit_group, 0, 0, 0, 0);
		while (call(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
