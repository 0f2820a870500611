#include "scp/audit/trail.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <exception>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "scp/audit/message.h"

namespace cardionode {
namespace fs = std::filesystem;

struct AuditTrail::State {
    AuditSettings settings;
    std::string program;
    std::string host;
    const Clock* clock = nullptr;
    Result<void> append(const AuditEvent& event) const;
    void note_lost(const std::string& why) const;
};

namespace {

/// "20261128T13": names sort as time does.
std::string hour_of(Moment moment) {
    const std::string text = to_iso8601(moment);
    return text.substr(0, 4) + text.substr(5, 2) + text.substr(8, 5);
}

std::optional<Moment> moment_of_hour(std::string_view name) {
    int year = 0, month = 0, day = 0, hour = 0;
    const auto number = [&](std::size_t at, std::size_t length, int& target) {
        const char* begin = name.data() + at;
        return std::from_chars(begin, begin + length, target).ptr == begin + length;
    };
    if (name.size() < 11 || !number(0, 4, year) || !number(4, 2, month) || !number(6, 2, day) || !number(9, 2, hour))
        return std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(day))};
    if (!date.ok()) return std::nullopt;
    return Moment(std::chrono::sys_days(date)) + std::chrono::hours(hour);
}

std::uint32_t crc_of(std::string_view text) {
    return static_cast<std::uint32_t>(
        ::crc32(::crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size())));
}

}  // namespace

std::string audit_line(std::string_view message) { return fmt::format("\n{:08x} {}\n", crc_of(message), message); }

std::optional<std::string> audit_message_of(std::string_view line) {
    std::uint32_t crc = 0;
    if (line.size() < 10 || line[8] != ' ') return std::nullopt;
    if (std::from_chars(line.data(), line.data() + 8, crc, 16).ptr != line.data() + 8) return std::nullopt;
    const std::string_view message = line.substr(9);
    if (crc_of(message) != crc) return std::nullopt;
    return std::string(message);
}

AuditSpoolUse audit_spool_use(const fs::path& spool) {
    AuditSpoolUse use;
    std::error_code error;
    for (fs::directory_iterator entry(spool, error), end; !error && entry != end; entry.increment(error)) {
        std::error_code gone;  // the sender removes files meanwhile
        const std::uint64_t size = entry->file_size(gone);
        if (gone) continue;
        const std::string name = entry->path().filename().string();
        if (name.starts_with("lost-")) use.lost += size;
        if (!name.ends_with(".audit")) continue;
        use.bytes += size;
        const auto hour = moment_of_hour(name);
        if (hour && (!use.oldest || *hour < *use.oldest)) use.oldest = hour;
    }
    return use;
}

Result<AuditTrail> AuditTrail::open(const NodeSettings& settings, std::string program, const Clock& clock) {
    AuditTrail trail;
    if (settings.audit.host.empty()) return trail;
    if (auto made = make_folder(settings.audit.spool); !made) return std::move(made).error().in("audit.spool");
    if (::access(settings.audit.spool.c_str(), R_OK | W_OK | X_OK) != 0)
        return Error(file_error("writing in", settings.audit.spool, errno)).in("audit.spool");
    auto state = std::make_shared<State>();
    state->settings = settings.audit;
    if (state->settings.source_id.empty()) state->settings.source_id = settings.scp.ae_title;
    state->program = std::move(program);
    char host[256] = {};
    if (::gethostname(host, sizeof host - 1) == 0) state->host = host;
    state->clock = &clock;
    trail.state_ = std::move(state);
    return trail;
}

bool AuditTrail::study_uids() const { return state_ && state_->settings.study_uids; }

Result<void> AuditTrail::State::append(const AuditEvent& event) const {
    const std::uint64_t most = static_cast<std::uint64_t>(settings.spool_mib) << 20;
    const std::uint64_t limit = event.from_strangers ? most / 2 : most;
    const Moment now = clock->now();
    const AuditSource source{settings.source_id, host, program, ::getpid(), settings.study_uids};
    const std::string line = audit_line(to_syslog(event, source, now));
    if (audit_spool_use(settings.spool).bytes + line.size() > limit) return retry_error("the audit spool is full");
    const fs::path path = settings.spool / fmt::format("{}-{}.audit", hour_of(now), program);
    constexpr int kTries = 3;
    for (int i = 0; i < kTries; ++i) {
        const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
        if (!file.valid()) return file_error("opening", path, errno);
        const ssize_t written = ::write(file.get(), line.data(), line.size());
        if (written < 0) return file_error("writing", path, errno);
        if (static_cast<std::size_t>(written) != line.size()) return file_error("writing", path, ENOSPC);
        struct stat info {};
        // The sender may have removed the file of an hour that is over between open and write.
        if (::fstat(file.get(), &info) == 0 && info.st_nlink > 0) return {};
    }
    return retry_error("the file of the audit spool is removed again and again");
}

void AuditTrail::State::note_lost(const std::string& why) const {
    log_error("audit_event_lost", {{"reason", why}});
    const fs::path path = settings.spool / ("lost-" + program);
    const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
    if (file.valid()) [[maybe_unused]]
        const ssize_t written = ::write(file.get(), ".", 1);
}

void AuditTrail::record(const AuditEvent& event) const noexcept {
    if (!state_) return;
    try {
        const auto appended = state_->append(event);
        if (!appended) state_->note_lost(appended.error().message);
    } catch (const std::exception& error) {  // no memory: the audit must not end what it watches
        log_error("audit_event_lost", {{"reason", error.what()}});
    }
}

}  // namespace cardionode
