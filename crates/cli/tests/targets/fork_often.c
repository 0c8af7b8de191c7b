/* Many forks, whose parent and child return from the C library's function at the same time. */
#include "target.h"
#include <sys/wait.h>

#define FORKS 3000

int main(void)
{
    for (int i = 0; i < FORKS; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(7);
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    calls("_Fork", FORKS);
    return 0;
}
