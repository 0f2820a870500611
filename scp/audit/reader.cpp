#include "scp/audit/reader.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <span>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/base/log.h"
#include "scp/audit/trail.h"

namespace cardionode {
namespace fs = std::filesystem;

Result<AuditReader> AuditReader::open(fs::path spool, const Clock& clock) {
    AuditReader reader(std::move(spool), clock);
    std::error_code error;
    if (!fs::exists(reader.spool_ / "delivered", error)) return reader;
    auto text = read_file(reader.spool_ / "delivered");
    if (!text) return std::move(text).error();
    std::istringstream lines(*text);
    std::string name;
    std::uint64_t bytes = 0;
    while (lines >> name >> bytes) reader.delivered_[name] = bytes;
    return reader;
}

Result<std::vector<std::string>> AuditReader::files() const {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(spool_, error), end; !error && entry != end; entry.increment(error)) {
        std::string name = entry->path().filename().string();
        if (name.ends_with(".audit") && name.find(' ') == std::string::npos) names.push_back(std::move(name));
    }
    if (error) return file_error("listing", spool_, error.value());
    std::ranges::sort(names);
    return names;
}

/// Nobody writes into it any more, whatever the clocks of the writers were when they opened it.
bool AuditReader::over(const std::string& name) const {
    struct stat info {};
    if (::stat((spool_ / name).c_str(), &info) != 0) return false;
    const Moment written{std::chrono::seconds(info.st_mtim.tv_sec)};
    return clock_->now() - written > kSilent;
}

Result<AuditReader::Part> AuditReader::read_part(int fd, const fs::path& path, std::uint64_t from, std::size_t most) {
    constexpr std::size_t kAtOnce = 1 << 18;  // many times the longest line
    std::string bytes(kAtOnce, '\0');
    const ssize_t n = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(from));
    if (n < 0) return file_error("reading", path, errno);
    bytes.resize(static_cast<std::size_t>(n));
    Part part;
    part.end = from;
    std::size_t at = 0;
    while (part.messages.size() < most) {
        const std::size_t end = bytes.find('\n', at);
        if (end == std::string::npos) {
            // A line that long is none of ours; a shorter one may still be on its way.
            if (at == 0 && bytes.size() == kAtOnce) {
                log_error("audit_spool_damaged", {{"file", path.filename().string()}});
                part.end = from + bytes.size();
            }
            break;
        }
        const std::string_view line = std::string_view(bytes).substr(at, end - at);
        at = end + 1;
        part.end = from + at;
        if (line.empty()) continue;
        if (auto message = audit_message_of(line)) part.messages.push_back(std::move(*message));
        else log_error("audit_spool_damaged", {{"file", path.filename().string()}});
    }
    return part;
}

Result<void> AuditReader::sync() {
    auto names = files();
    if (!names) return std::move(names).error();
    bool fresh = false;
    for (const std::string& name : *names) {
        const fs::path path = spool_ / name;
        const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        struct stat info {};
        if (!file.valid() || ::fstat(file.get(), &info) != 0) return file_error("opening", path, errno);
        std::uint64_t& synced = synced_[name];
        if (synced == static_cast<std::uint64_t>(info.st_size)) continue;
        if (::fdatasync(file.get()) != 0) return file_error("syncing", path, errno);
        fresh = fresh || synced == 0;
        synced = static_cast<std::uint64_t>(info.st_size);
    }
    return fresh ? sync_folder(spool_) : Result<void>();
}

Result<std::vector<std::string>> AuditReader::next(std::size_t most) {
    handed_out_ = delivered_;
    std::vector<std::string> messages;
    if (auto synced = sync(); !synced) return std::move(synced).error();
    auto names = files();
    if (!names) return std::move(names).error();
    for (const std::string& name : *names) {
        const fs::path path = spool_ / name;
        const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file.valid()) return file_error("opening", path, errno);
        struct stat info {};
        if (::fstat(file.get(), &info) != 0) return file_error("asking for the size of", path, errno);
        const auto size = static_cast<std::uint64_t>(info.st_size);
        if (delivered_[name] > size) delivered_[name] = 0;  // another file of this name
        std::uint64_t from = delivered_[name];
        while (from < size && messages.size() < most) {
            auto part = read_part(file.get(), path, from, most - messages.size());
            if (!part) return std::move(part).error();
            if (part->end == from) break;  // the last line is not whole
            from = part->end;
            std::ranges::move(part->messages, std::back_inserter(messages));
        }
        handed_out_[name] = from;
        if (messages.size() >= most) break;
    }
    return messages;
}

Result<void> AuditReader::save() const {
    std::string text;
    for (const auto& [name, bytes] : delivered_) text += fmt::format("{} {}\n", name, bytes);
    return write_file_durably(spool_ / "delivered", text);
}

Result<void> AuditReader::delivered() {
    if (delivered_ == handed_out_) return {};
    delivered_ = handed_out_;
    return save();
}

Result<void> AuditReader::tidy() {
    auto names = files();
    if (!names) return std::move(names).error();
    for (const std::string& name : *names) {
        const fs::path path = spool_ / name;
        const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        struct stat info {};
        if (!file.valid() || ::fstat(file.get(), &info) != 0) return file_error("opening", path, errno);
        const std::uint64_t read = delivered_[name];
        if (!over(name) && (read < kLarge || read < static_cast<std::uint64_t>(info.st_size))) continue;
        auto rest = read_part(file.get(), path, read, 1);
        if (!rest) return std::move(rest).error();
        if (!rest->messages.empty()) continue;  // of a file that is over, a line without an end is torn for good
        delivered_.erase(name);
        synced_.erase(name);
        // First the note, then the file: cut off between them, it is delivered again.
        if (auto saved = save(); !saved) return saved;
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) return file_error("removing", path, errno);
        if (auto rescued = rescue(file.get(), name, read); !rescued) return rescued;
    }
    std::erase_if(delivered_, [&](const auto& entry) { return !std::ranges::binary_search(*names, entry.first); });
    return {};
}

/// What came into the file between the last look and its removal. A writer that comes later than this sees that its
/// file is gone, and writes again.
Result<void> AuditReader::rescue(int fd, const std::string& name, std::uint64_t from) {
    auto late = read_part(fd, spool_ / name, from, 1'000'000);
    if (!late) return std::move(late).error();
    if (late->messages.empty()) return {};
    std::string lines;
    for (const std::string& message : late->messages) lines += audit_line(message);
    // Under a name of its own: the writer may be another user, who could not write into a file of ours.
    const fs::path path = spool_ / (name.substr(0, name.size() - 6) + "-rest.audit");
    const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
    if (!file.valid()) return file_error("opening", path, errno);
    return write_all(file.get(), std::as_bytes(std::span(lines.data(), lines.size())), path);
}

std::map<std::string, std::uint64_t> AuditReader::lost() const {
    std::map<std::string, std::uint64_t> found;
    std::error_code error;
    for (fs::directory_iterator entry(spool_, error), end; !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        std::error_code gone;
        const auto size = entry->file_size(gone);
        if (name.starts_with("lost-") && !gone && size > 0) found[name.substr(5)] = size;
    }
    return found;
}

void AuditReader::lost_was_told(const std::string& program) const {
    std::error_code ignored;  // told once more later
    fs::remove(spool_ / ("lost-" + program), ignored);
}

}  // namespace cardionode
