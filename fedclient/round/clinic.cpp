#include "fedclient/round/clinic.h"

#include "conf/base/log.h"
#include "scp/queue/queue.h"

namespace cardionode::fed {

struct ClinicWatch::Connection {
    Queue queue;
};

ClinicWatch::ClinicWatch(std::filesystem::path database, Milliseconds answer_holds)
    : database_(std::move(database)), holds_(answer_holds) {}
ClinicWatch::~ClinicWatch() = default;

Result<bool> ClinicWatch::ask() {
    if (!queue_) {
        auto queue = Queue::open(database_, system_clock(), {.mode = QueueOptions::Mode::ReadOnly});
        if (!queue) return std::move(queue).error();
        queue_ = std::make_unique<Connection>(Connection{*std::move(queue)});
    }
    auto depths = queue_->queue.depths();
    if (!depths) return std::move(depths).error();
    for (const QueueDepths::Studies& s : depths->studies) {
        if (s.number > 0 && (s.state == StudyState::Ready || s.state == StudyState::Processing)) return true;
    }
    return false;
}

bool ClinicWatch::busy() {
    const auto now = std::chrono::steady_clock::now();
    if (asked_ != std::chrono::steady_clock::time_point{} && now - asked_ < holds_) return busy_;
    asked_ = now;
    auto answer = ask();
    if (!answer) {
        queue_.reset();
        if (!told_) log_warning("queue_not_asked", {{"why", answer.error().message}});
        told_ = true;
    }
    busy_ = answer && *answer;
    return busy_;
}

}  // namespace cardionode::fed
