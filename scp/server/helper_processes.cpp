#include "scp/server/helper_processes.h"

#include <csignal>
#include <exception>

#include <sys/mman.h>

#include "conf/base/log.h"
#include "scp/audit/sender.h"
#include "scp/metrics/responder.h"
#include "scp/server/process_control.h"
#include "scp/server/receiver_metrics.h"
#include "scp/server/reporter.h"

namespace cardionode {

int run_audit_sender(const NodeSettings& settings) {
    try {
        be_patient();
        auto sender = AuditSender::create(settings);
        if (!sender) {
            log_error("audit_sender_cannot_start", {{"reason", sender.error().message}});
            return 1;
        }
        sender->run([] { return asked_to_end(); },
                    [](std::chrono::milliseconds longest) { wait_for_work(-1, longest); });
        return 0;
    } catch (const std::exception& error) {
        log_error("audit_sender_failed", {{"reason", error.what()}});
        return 1;
    }
}

int run_metrics(const NodeSettings& settings, SharedState& shared, FileDescriptor listener) {
    try {
        be_patient();
        if (::mprotect(&shared, sizeof shared, PROT_READ) != 0) return 1;
        const SharedState& seen = shared;
        auto responder = Responder::create(
            std::move(listener),
            observe([&] { return receiver_metrics(settings, seen); }, [&] { return receiver_health(seen); }));
        if (!responder) {
            log_error("metrics_cannot_start", {{"reason", responder.error().message}});
            return 1;
        }
        responder->run([] {
            wait_for_work(-1, std::chrono::milliseconds(0));  // the signal that asks for the end is let through here
            return asked_to_end();
        });
        return 0;
    } catch (const std::exception& error) {
        log_error("metrics_failed", {{"reason", error.what()}});
        return 1;
    }
}

int run_reporter(const NodeSettings& settings, const AuditTrail& audit, SharedState& shared) {
    try {
        // Any wait of it may be cut short: what was not reported is reported again.
        sigset_t end;
        sigemptyset(&end);
        sigaddset(&end, SIGUSR1);
        sigprocmask(SIG_UNBLOCK, &end, nullptr);
        return report_commitments(settings, shared.passes,
                                  CommitmentWatch(shared.counters, audit, settings.scp.ae_title), asked_to_end);
    } catch (const std::exception& error) {
        log_error("reporter_failed", {{"reason", error.what()}});
        return 1;
    }
}

}  // namespace cardionode
