#include "fedclient/flower/dir_transport.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "fedclient/flower/dir_files.h"
#include "fedclient/flower/dir_message.h"
#include "models/weights/tensor_file.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestText = std::uint64_t{1} << 20;
constexpr std::uint64_t kDiskReserve = std::uint64_t{64} << 20;
constexpr std::size_t kMostMessages = 10'000;
constexpr std::size_t kPiece = std::size_t{1} << 20;
constexpr const char* kStored = "stored";
constexpr const char* kFinished = "finished";

bool is_there(const fs::path& path) {
    std::error_code code;
    return fs::exists(fs::symlink_status(path, code));
}

/// The same tensors without the metadata of the file, which nobody asked to send.
Result<void> write_plain_copy(const fs::path& source, const fs::path& target) {
    const auto in = TensorFile::open(source);
    if (!in) return Error(in.error());
    auto out = TensorFileWriter::create(target, in->entries());
    if (!out) return std::move(out).error();
    std::vector<std::byte> piece;
    for (const TensorEntry& entry : in->entries()) {
        for (std::uint64_t at = 0; at < entry.bytes; at += piece.size()) {
            piece.resize(std::min<std::uint64_t>(kPiece, entry.bytes - at));
            if (auto read = in->read(entry, at, piece); !read) return read;
            if (auto put = out->append(std::span<const std::byte>(piece)); !put) return put;
        }
    }
    return out->commit();
}

Result<void> remove_tree(const fs::path& folder) {
    std::error_code code;
    fs::remove_all(folder, code);  // does not follow links
    if (code) return file_error("removing", folder, code.value());
    return {};
}

class DirTransport final : public Transport {
public:
    explicit DirTransport(DirTransportOptions options) : options_(std::move(options)) {}

    Result<void> join() override;
    Result<std::optional<Incoming>> poll() override;
    Result<Pulled> fetch(const Incoming& message) override;
    Result<std::string> prepare(const Incoming& message, const Reply& reply) override;
    Result<PushOutcome> push(const Incoming& message) override;
    Result<Receipt> receipt(const Incoming& message) override;
    Result<void> leave() override { return {}; }
    TransferTotals totals() const override { return totals_; }

private:
    fs::path in() const { return options_.root / "in"; }
    fs::path out() const { return options_.root / "out"; }
    fs::path work_of(const std::string& id) const { return options_.work / id; }
    fs::path refusal_of(const std::string& name) const { return options_.work / ".refused" / sha256_hex(name); }

    bool expired(const Incoming& message) const {
        const double now = static_cast<double>(options_.clock->now().time_since_epoch().count()) / 1000;
        return now > message.created_at + message.ttl;
    }
    Result<std::vector<std::string>> names_in() const;
    Result<std::optional<Incoming>> look_at(const std::string& name);
    Result<DirMessage> read_message(const std::string& id) const;
    Result<void> write_message(const FileDescriptor& folder, const std::string& id, const std::string& sums);
    Result<void> check_known(const Incoming& message) const;
    Result<void> write_out(const Incoming& message, const Sums& sums);
    Result<PulledArrays> fetch_file(const Incoming& message, const FileDescriptor* folder, const std::string& name,
                                    const std::string& sha256, std::uint64_t& left);

    DirTransportOptions options_;
    std::set<std::string> delivered_;  ///< by this process
    TransferTotals totals_;
};

Result<void> DirTransport::join() {
    for (const fs::path& folder : {in(), out()}) {
        std::error_code code;
        if (!fs::is_directory(folder, code)) {
            return config_error(folder.string() +
                                ": no such folder. Make it, or mount what holds it; the node makes "
                                "nothing there of its own accord");
        }
    }
    if (::access(in().c_str(), R_OK | X_OK) != 0) return file_error("reading", in(), errno);
    if (::access(out().c_str(), W_OK | X_OK) != 0) return file_error("writing to", out(), errno);
    return make_folder(options_.work / ".refused");
}

Result<std::vector<std::string>> DirTransport::names_in() const {
    std::vector<std::string> names;
    std::error_code code;
    for (fs::directory_iterator at(in(), code), end; !code && at != end; at.increment(code)) {
        std::string name = at->path().filename().string();
        if (name.starts_with(".") || name.ends_with(".part")) continue;
        names.push_back(std::move(name));
        if (names.size() > kMostMessages) return retry_error(in().string() + ": too many messages to look through");
    }
    if (code) return file_error("reading", in(), code.value());
    std::sort(names.begin(), names.end());
    return names;
}

Result<std::optional<Incoming>> DirTransport::poll() {
    ++totals_.calls;
    const auto names = names_in();
    if (!names) return Error(names.error());
    for (const std::string& name : *names) {
        if (delivered_.count(name) != 0 || is_there(refusal_of(name))) continue;
        if (is_plain_name(name) && (is_there(work_of(name) / kStored) || is_there(work_of(name) / kFinished))) continue;
        auto looked = look_at(name);
        if (looked && !*looked) continue;
        if (looked) {
            delivered_.insert(name);
            return looked;
        }
        Error error = std::move(looked).error().in("message " + shown_text(name) + " in " + in().string());
        if (error.kind == ErrorKind::Reject) {
            if (auto kept = write_file_durably(refusal_of(name), error.message + "\n"); !kept) {
                return std::move(kept).error();
            }
        }
        return error;
    }
    return std::optional<Incoming>();
}

Result<std::optional<Incoming>> DirTransport::look_at(const std::string& name) {
    if (!is_plain_name(name)) return reject_error("its name holds other characters than letters, digits and . _ -");
    if (!is_there(work_of(name) / kMessageFile)) {
        const auto folder = open_folder_in(in(), name);
        if (!folder) return Error(folder.error());
        if (!*folder) return std::optional<Incoming>();
        const auto sums = read_in(**folder, kSumsFile, kLargestText);
        if (!sums) return Error(sums.error());
        if (!*sums) return std::optional<Incoming>();  // still being copied
        if (auto written = write_message(**folder, name, **sums); !written) return std::move(written).error();
    }
    auto message = read_message(name);
    if (!message) return std::move(message).error();
    if (expired(message->incoming)) return std::optional<Incoming>();
    return std::optional<Incoming>(std::move(message->incoming));
}

/// Checks what the folder holds and keeps its texts; message.json last, so that it stands for both.
Result<void> DirTransport::write_message(const FileDescriptor& folder, const std::string& id, const std::string& text) {
    const auto sums = parse_sums(text);
    if (!sums) return Error(sums.error()).in(kSumsFile);
    const auto json = read_in(folder, kMessageFile, kLargestText);
    if (!json) return Error(json.error());
    if (!*json) return reject_error(std::string(kMessageFile) + ": is not there");
    const auto sum = sums->find(kMessageFile);
    if (sum == sums->end()) return reject_error(std::string(kMessageFile) + ": is not in SHA256SUMS");
    if (sha256_hex(**json) != sum->second) {
        return reject_error(std::string(kMessageFile) + ": its SHA-256 is not the one in SHA256SUMS");
    }
    const auto message = parse_dir_message(**json);
    if (!message) return Error(message.error()).in(kMessageFile);
    if (message->incoming.message_id != id) {
        return reject_error(std::string(kMessageFile) + ": its message_id is not the name of its folder");
    }
    std::uint64_t bytes = 0;
    for (const auto& [record, file] : message->arrays) {
        if (sums->find(file) == sums->end()) return reject_error(shown_text(file) + ": is not in SHA256SUMS");
        const auto size = size_in(folder, file);
        if (!size) return Error(size.error());
        if (*size > options_.largest_message || (bytes += *size) > options_.largest_message) {
            return reject_error("its files are larger than " + std::to_string(options_.largest_message) + " bytes");
        }
    }
    if (auto made = make_folder(work_of(id)); !made) return made;
    if (auto kept = write_file_durably(work_of(id) / kSumsFile, text); !kept) return kept;
    return write_file_durably(work_of(id) / kMessageFile, **json);
}

Result<DirMessage> DirTransport::read_message(const std::string& id) const {
    const auto text = read_file(work_of(id) / kMessageFile);
    if (!text) return Error(text.error());
    auto message = parse_dir_message(*text);
    if (!message) return std::move(message).error().in((work_of(id) / kMessageFile).string());
    message->incoming.folder = work_of(id);
    return message;
}

/// A message that poll() gave, now or in an earlier process.
Result<void> DirTransport::check_known(const Incoming& message) const {
    if (is_plain_name(message.message_id) && is_there(work_of(message.message_id) / kMessageFile)) return {};
    return bug_error("the message " + shown_text(message.message_id) + " was never polled");
}

Result<PulledArrays> DirTransport::fetch_file(const Incoming& message, const FileDescriptor* folder,
                                              const std::string& name, const std::string& sha256, std::uint64_t& left) {
    const fs::path target = work_of(message.message_id) / "weights" / name;
    if (is_there(target)) {
        const auto kept = sha256_of_file(target);
        if (kept && *kept == sha256) return PulledArrays{target, sha256};
    }
    if (folder == nullptr) return reject_error(name + ": the message was taken away before it was read");
    const auto size = size_in(*folder, name);
    if (!size) return Error(size.error());
    const auto room = free_bytes(options_.work);
    if (!room) return Error(room.error());
    if (*room < kDiskReserve || *size > *room - kDiskReserve) {
        return retry_error("the disk is too full for " + name + " of " + std::to_string(*size) + " bytes");
    }
    const auto copied = copy_from(*folder, name, left, sha256, target);
    if (!copied) return Error(copied.error());
    left -= *copied;
    totals_.bytes_received += *copied;
    return PulledArrays{target, sha256};
}

Result<Pulled> DirTransport::fetch(const Incoming& message) {
    ++totals_.calls;
    if (auto known = check_known(message); !known) return std::move(known).error();
    const std::string& id = message.message_id;
    auto kept = read_message(id);
    if (!kept) return std::move(kept).error();
    const auto text = read_file(work_of(id) / kSumsFile);
    if (!text) return Error(text.error());
    const auto sums = parse_sums(*text);
    if (!sums) return Error(sums.error());
    if (auto made = make_folder(work_of(id) / "weights"); !made) return std::move(made).error();
    const auto folder = open_folder_in(in(), id);
    if (!folder) return Error(folder.error());
    Pulled pulled;
    std::uint64_t left = options_.largest_message;
    for (const auto& [record, file] : kept->arrays) {
        const auto sum = sums->find(file);
        if (sum == sums->end()) return reject_error(shown_text(file) + ": is not in SHA256SUMS");
        auto fetched = fetch_file(message, *folder ? &**folder : nullptr, file, sum->second, left);
        if (!fetched) return std::move(fetched).error().in("message " + shown_text(id));
        if (const auto tensors = TensorFile::open(fetched->weights); !tensors) {
            if (tensors.error().kind != ErrorKind::Config) return Error(tensors.error());
            return reject_error("message " + shown_text(id) + ": " + tensors.error().message);
        }
        pulled.arrays.emplace(record, std::move(*fetched));
    }
    pulled.configs = std::move(kept->configs);
    pulled.metrics = std::move(kept->metrics);
    return pulled;
}

Result<std::string> DirTransport::prepare(const Incoming& message, const Reply& reply) {
    if (auto known = check_known(message); !known) return std::move(known).error();
    const fs::path folder = work_of(message.message_id) / "reply";
    const fs::path part = work_of(message.message_id) / "reply.part";
    auto text = dir_reply_text(message, reply);
    if (!text) return std::move(text).error();
    if (auto removed = remove_tree(part); !removed) return std::move(removed).error();
    if (auto made = make_folder(part); !made) return std::move(made).error();
    Sums sums = {{kReplyFile, sha256_hex(*text)}};
    if (reply.weights && !reply.failure) {
        if (auto copied = write_plain_copy(*reply.weights, part / kReplyWeights); !copied) {
            return std::move(copied).error();
        }
        const auto sum = sha256_of_file(part / kReplyWeights);
        if (!sum) return Error(sum.error());
        sums[kReplyWeights] = *sum;
    }
    if (auto written = write_file_durably(part / kReplyFile, *text); !written) return std::move(written).error();
    const std::string list = sums_text(sums);
    if (auto written = write_file_durably(part / kSumsFile, list); !written) return std::move(written).error();
    if (auto removed = remove_tree(folder); !removed) return std::move(removed).error();
    if (::rename(part.c_str(), folder.c_str()) != 0) return file_error("renaming to", folder, errno);
    if (auto synced = sync_folder(work_of(message.message_id)); !synced) return std::move(synced).error();
    return sha256_hex(list);
}

Result<PushOutcome> DirTransport::push(const Incoming& message) {
    ++totals_.calls;
    if (auto known = check_known(message); !known) return std::move(known).error();
    const fs::path work = work_of(message.message_id);
    const auto text = read_file(work / "reply" / kSumsFile);
    if (!text)
        return bug_error("the reply to " + shown_text(message.message_id) + " was pushed before it was prepared");
    const auto sums = parse_sums(*text);
    if (!sums) return Error(sums.error());
    // A reply that stands there is looked at before the time: a push that was interrupted may have been in time.
    const auto there = open_folder_in(out(), message.message_id);
    if (!there && there.error().kind != ErrorKind::Reject) return Error(there.error());
    if (!there) return PushOutcome::Refused;
    if (*there) {
        const auto other = read_in(**there, kSumsFile, kLargestText);
        if (!other && other.error().kind != ErrorKind::Reject) return Error(other.error());
        if (!other || !*other || **other != *text) return PushOutcome::Refused;
    } else if (is_there(work / kStored)) {
        return PushOutcome::Stored;  // and taken away since: it is not put there once more
    } else if (expired(message)) {
        return PushOutcome::Refused;
    } else if (auto written = write_out(message, *sums); !written) {
        return std::move(written).error().in("the reply in " + out().string());
    }
    if (auto marked = write_file_durably(work / kStored, std::string_view()); !marked) return std::move(marked).error();
    return PushOutcome::Stored;
}

Result<void> DirTransport::write_out(const Incoming& message, const Sums& sums) {
    const std::string part = "." + message.message_id + ".part";
    const fs::path prepared = work_of(message.message_id) / "reply";
    if (auto removed = remove_tree(out() / part); !removed) return removed;
    const FileDescriptor above(::open(out().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!above.valid()) return file_error("opening folder", out(), errno);
    if (::mkdirat(above.get(), part.c_str(), 0700) != 0) return file_error("making folder", out() / part, errno);
    const auto folder = open_folder_in(out(), part);
    if (!folder) return Error(folder.error());
    if (!*folder) return retry_error(part + " was removed meanwhile");
    for (const auto& [name, sum] : sums) {
        const auto copied = copy_into(**folder, name, prepared / name);
        if (!copied) return Error(copied.error());
        totals_.bytes_sent += *copied;
    }
    if (auto copied = copy_into(**folder, kSumsFile, prepared / kSumsFile); !copied) return std::move(copied).error();
    // The adapter, of the node's group, makes `taken` in it.
    if (::fchmod((*folder)->get(), 0770) != 0 || ::fsync((*folder)->get()) != 0) {
        return file_error("syncing", out() / part, errno);
    }
    if (::renameat(above.get(), part.c_str(), above.get(), message.message_id.c_str()) != 0 ||
        ::fsync(above.get()) != 0) {
        return file_error("renaming to", out() / message.message_id, errno);
    }
    return {};
}

Result<Receipt> DirTransport::receipt(const Incoming& message) {
    ++totals_.calls;
    if (auto known = check_known(message); !known) return std::move(known).error();
    const fs::path work = work_of(message.message_id);
    if (const auto before = read_file(work / kFinished); before) {
        return *before == "taken\n" ? Receipt::Taken : Receipt::RunOver;
    }
    if (!is_there(work / kStored)) return bug_error("a receipt was asked for before the reply was pushed");
    const auto folder = open_folder_in(out(), message.message_id);
    if (!folder && folder.error().kind != ErrorKind::Reject) return Error(folder.error());
    const bool gone = !folder || !*folder;
    const bool taken = !gone && exists_in(**folder, "taken");
    if (!gone && !taken && !exists_in(**folder, "refused")) return Receipt::Waiting;
    if (auto kept = write_file_durably(work / kFinished, std::string_view(taken ? "taken\n" : "over\n")); !kept) {
        return std::move(kept).error();
    }
    return taken ? Receipt::Taken : Receipt::RunOver;
}

}  // namespace

Result<std::unique_ptr<Transport>> make_dir_transport(DirTransportOptions options) {
    if (options.root.empty() || options.work.empty()) {
        return config_error("the dir transport needs a folder for its messages and a work folder");
    }
    return std::unique_ptr<Transport>(std::make_unique<DirTransport>(std::move(options)));
}

}  // namespace cardionode::fed
