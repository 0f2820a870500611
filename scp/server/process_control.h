// What all processes that the supervisor forks share: how they are asked to end, how they wait, how they are scheduled.
//
// Signals: SIGTERM to the whole service means "finish": only the supervisor listens to it. A child ends at SIGUSR1,
// which is blocked and let through only inside a wait, so that it interrupts nothing else; a child whose supervisor
// dies gets that too (those whose every step may be cut off: SIGKILL).
// Thread safety: of a process's only thread.
#pragma once

#include <chrono>

namespace cardionode {

/// In a forked child: signal handling as above; end with the parent. false: the parent is gone already.
bool become_child(int parent_process, int signal_when_parent_dies);

/// SIGUSR1 came.
bool asked_to_end();

/// Until woken, or the time is over. SIGUSR1 is let through only here. @param event_fd  eventfd, or -1
void wait_for_work(int event_fd, std::chrono::milliseconds longest);

/// For a process that a peer waits for.
void be_prompt();
/// For a process whose work can wait.
void be_patient();

}  // namespace cardionode
