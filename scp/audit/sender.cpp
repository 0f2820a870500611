#include "scp/audit/sender.h"

#include <algorithm>

#include <unistd.h>

#include "conf/base/log.h"
#include "scp/audit/message.h"

namespace cardionode {
namespace {

constexpr std::size_t kBatch = 200;
constexpr std::size_t kDatagrams = 50;  // a second: more at once would overflow the buffer of whoever reads them
constexpr std::chrono::milliseconds kLook{1'000};  // also how long an event may be unsynced
constexpr std::chrono::milliseconds kArrive{10'000};
constexpr std::chrono::milliseconds kLastConnect{1'500};  // when the service stops; what is left waits in the spool

}  // namespace

AuditSender::AuditSender(const NodeSettings& settings, AuditReader reader, const Clock& clock)
    : settings_(settings.audit),
      source_id_(settings.audit.source_id.empty() ? settings.scp.ae_title : settings.audit.source_id),
      reader_(std::move(reader)),
      clock_(&clock) {}

Result<AuditSender> AuditSender::create(const NodeSettings& settings, const Clock& clock) {
    auto reader = AuditReader::open(settings.audit.spool, clock);
    if (!reader) return std::move(reader).error();
    return AuditSender(settings, std::move(reader).value(), clock);
}

Result<void> AuditSender::connect() {
    if (connection_ && connection_->all_arrived(std::chrono::milliseconds(0)).ok()) return {};
    connection_.reset();
    auto opened = SyslogConnection::open(settings_, connect_time_);
    if (!opened) return std::move(opened).error();
    connection_.emplace(std::move(opened).value());
    return {};
}

Result<void> AuditSender::tell_lost() {
    for (const auto& [program, events] : reader_.lost()) {
        char host[256] = {};
        (void)::gethostname(host, sizeof host - 1);
        const AuditSource source{source_id_, host, program, ::getpid(), false};
        if (auto sent = connection_->send(to_syslog(audit_events_lost(program, events), source, clock_->now())); !sent)
            return sent;
        if (auto arrived = connection_->all_arrived(kArrive); !arrived) return arrived;
        reader_.lost_was_told(program);
    }
    return {};
}

Result<std::size_t> AuditSender::step() {
    auto messages = reader_.next(settings_.transport == "udp" ? kDatagrams : kBatch);
    if (!messages) return std::move(messages).error();
    const auto deliver = [&]() -> Result<void> {
        if (messages->empty()) return {};
        if (auto connected = connect(); !connected) return connected;
        for (const std::string& message : *messages)
            if (auto sent = connection_->send(message); !sent) return sent;
        if (auto arrived = connection_->all_arrived(kArrive); !arrived) return arrived;
        return tell_lost();
    };
    if (auto done = deliver(); !done) {
        connection_.reset();
        return std::move(done).error();
    }
    if (auto noted = reader_.delivered(); !noted) return std::move(noted).error();
    if (auto tidied = reader_.tidy(); !tidied) return std::move(tidied).error();
    return messages->size();
}

void AuditSender::run(const std::function<bool()>& stop, const std::function<void(std::chrono::milliseconds)>& wait) {
    std::chrono::milliseconds pause = kFirstPause;
    while (true) {
        const bool last = stop();
        if (last) connect_time_ = kLastConnect;
        const auto sent = step();
        if (sent) {
            if (away_ && *sent > 0) {
                log_info("audit_repository_is_back");
                away_ = false;
            }
            if (*sent > 0) pause = kFirstPause;
            if (*sent == kBatch) continue;
            if (last) return;
            wait(kLook);
            continue;
        }
        if (!away_) log_error("audit_repository_away", {{"reason", sent.error().message}});
        away_ = true;
        if (last) return;
        for (auto left = pause; left.count() > 0 && !stop(); left -= std::min(left, kLook)) {
            wait(std::min(left, kLook));
            if (auto synced = reader_.sync(); !synced)
                log_error("audit_spool_not_synced", {{"reason", synced.error().message}});
        }
        pause = std::min(pause * 2, kLongestPause);
    }
}

}  // namespace cardionode
