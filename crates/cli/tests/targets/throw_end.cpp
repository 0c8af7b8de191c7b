// Exceptions that end the program: uncaught, through noexcept, thrown by a destructor during
// unwinding; a terminate handler that exits; exit() and quick_exit() called within probed frames.
#include "target.h"
#include <exception>
#include <stdexcept>

struct Bad {
    ~Bad() noexcept(false) { throw 2; }
};

extern "C" {
T void t_throw() { throw std::runtime_error("no one catches this"); }
T void t_noexcept() noexcept { t_throw(); }
T void t_destructor()
{
    Bad bad;
    t_throw();
}
T void t_exit(int code) { exit(code); }
T void t_quick(int code) { quick_exit(code); }
T void t_now(int code) { _exit(code); }
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    std::string_view how = argv[1];
    calls("t_throw",
          how == "uncaught" || how == "noexcept" || how == "destructor" || how == "handler");
    fflush(stdout);
    if (how == "uncaught")
        t_throw();
    else if (how == "noexcept")
        t_noexcept();
    else if (how == "destructor")
        t_destructor();
    else if (how == "handler") {
        std::set_terminate([] { puts("terminate handler"); fflush(stdout); _exit(42); });
        t_throw();
    } else if (how == "exit")
        t_exit(43);
    else if (how == "quick")
        t_quick(44);
    else if (how == "now")
        t_now(45);
    return 1;
}
