/* What execve cannot read it refuses, as it does bare. */
#include "target.h"
#include <sys/mman.h>

T int t_exec(char **environment)
{
    char *arguments[] = { "true", NULL };
    int result = execve("/bin/true", arguments, environment);
    return result == -1 ? errno : 0;
}

int main(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && munmap(pages + page, page) == 0);
    char **end = (char **)(pages + page);
    end[-1] = "A=1";
    printf("address %d\n", t_exec((char **)8));
    printf("no end %d\n", t_exec(end - 1));
    end[-2] = (char *)16;
    end[-1] = NULL;
    printf("bad string %d\n", t_exec(end - 2));
    memset(pages, 'A', 8);
    char *open = pages + page - 3;
    end[-2] = pages;
    memset(open, 'B', 3);
    char *strings[] = { "C=1", open, NULL };
    printf("string without end %d\n", t_exec(strings));
    printf("kernel's %d\n", t_exec((char **)0xffff800000000000));
    printf("not canonical %d\n", t_exec((char **)0x8000000000000000));
    calls("t_exec", 6);
    return 0;
}
