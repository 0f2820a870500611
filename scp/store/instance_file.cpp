#include "scp/store/instance_file.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/base/hash.h"
#include "scp/dicom/part10.h"
#include "scp/dicom/scan.h"
#include "scp/dicom/syntaxes.h"
#include "scp/store/patient_mark.h"

namespace cardionode {
namespace fs = std::filesystem;

namespace {

std::string digest_of(std::initializer_list<std::string_view> parts) {
    Sha256 hash;
    for (const std::string_view part : parts) hash.update(std::to_string(part.size())).update(":").update(part);
    return hash.hex_digest();
}

/// In the kernel where the file system can, through a buffer where it cannot.
Result<void> copy_range(int from, std::uint64_t offset, std::uint64_t bytes, int to, const fs::path& path) {
    auto at = static_cast<off_t>(offset);
    while (bytes > 0) {
        const ssize_t n = ::copy_file_range(from, &at, to, nullptr,
                                            static_cast<std::size_t>(std::min<std::uint64_t>(bytes, 1U << 30)), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EFBIG))
            return file_error("writing", path, errno);
        if (n <= 0) break;
        bytes -= static_cast<std::uint64_t>(n);
    }
    std::vector<std::byte> buffer(bytes > 0 ? 1 << 18 : 0);
    while (bytes > 0) {
        const ssize_t n =
            ::pread(from, buffer.data(), static_cast<std::size_t>(std::min<std::uint64_t>(bytes, buffer.size())), at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_error("reading the segment for", path, errno);
        if (n == 0) return retry_error(fmt::format("the segment for {} is shorter than its record", path.string()));
        if (auto written = write_all(to, std::span(buffer).first(static_cast<std::size_t>(n)), path); !written)
            return written;
        at += n;
        bytes -= static_cast<std::uint64_t>(n);
    }
    return {};
}

}  // namespace

std::string instance_file_name(const ReceivedInstance& instance) {
    const std::string folder = digest_of({instance.study_instance_uid, instance.series_instance_uid}).substr(0, 2);
    const std::string name =
        digest_of({instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid,
                   instance.sop_class_uid, instance.transfer_syntax_uid, instance.sha256});
    return fmt::format("instances/{}/{}.dcm", folder, name.substr(0, 40));
}

InstanceFileGroup::~InstanceFileGroup() {
    for (const File& file : files_)
        if (!file.renamed) ::unlink(file.temporary.c_str());
}

Result<void> InstanceFileGroup::add(const ReceivedInstance& instance, int data_fd, std::uint64_t data_offset) {
    const fs::path final = spool_->root / instance.file;
    const fs::path folder = final.parent_path();
    const std::vector<std::byte> meta =
        write_file_meta({instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid,
                         instance.calling_ae_title, instance.called_ae_title});
    folders_.insert(folder);
    const auto same = [&](const File& file) { return file.final == final; };
    if (std::ranges::any_of(files_, same)) return {};  // sent twice in one group
    // Files appear under their name only when they are whole and synced. An earlier sender's AE titles may make the
    // meta header a few bytes longer or shorter; the content is part of the name.
    struct stat info {};
    if (::stat(final.c_str(), &info) == 0 && info.st_size > instance.bytes &&
        info.st_size <= instance.bytes + static_cast<off_t>(kMaxFileMetaBytes))
        return {};
    if (auto made = make_folder(folder); !made) return made;
    File file;
    file.final = final;
    file.temporary = folder / (std::string(kTemporaryPrefix) + final.filename().string());
    file.fd = FileDescriptor(::open(file.temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
    if (!file.fd.valid()) return file_error("creating", file.temporary, errno);
    files_.push_back(std::move(file));
    const File& made = files_.back();
    if (auto written = write_all(made.fd.get(), meta, made.temporary); !written) return written;
    if (auto copied =
            copy_range(data_fd, data_offset, static_cast<std::uint64_t>(instance.bytes), made.fd.get(), made.temporary);
        !copied)
        return copied;
    // The disk begins now, so that the sync of the group finds little left to do. Only a hint: fdatasync decides.
    (void)::sync_file_range(made.fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
    return {};
}

Result<void> InstanceFileGroup::sync_files() {
    for (File& file : files_) {
        if (::fsync(file.fd.get()) != 0) return file_error("syncing", file.temporary, errno);
        file.fd.reset();
    }
    return {};
}

Result<void> InstanceFileGroup::rename_files(const std::function<void()>& before_each) {
    for (File& file : files_) {
        before_each();
        if (::rename(file.temporary.c_str(), file.final.c_str()) != 0)
            return file_error("renaming to", file.final, errno);
        file.renamed = true;
    }
    return {};
}

Result<void> InstanceFileGroup::sync_folders() {
    for (const fs::path& folder : folders_)
        if (auto synced = sync_folder(folder); !synced) return synced;
    return {};
}

Result<ReceivedInstance> read_instance_file(const fs::path& path, const std::string& patient_key) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return file_error("opening", path, errno);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) return file_error("asking for the size of", path, errno);
    std::vector<std::byte> buffer(1 << 18);
    const auto read_some = [&]() -> Result<std::span<const std::byte>> {
        ssize_t n = -1;
        do n = ::read(file.get(), buffer.data(), buffer.size());
        while (n < 0 && errno == EINTR);
        if (n < 0) return file_error("reading", path, errno);
        return std::span<const std::byte>(buffer).first(static_cast<std::size_t>(n));
    };
    auto part = read_some();
    if (!part) return std::move(part).error();
    auto parsed = parse_file_meta(*part);
    if (!parsed) return std::move(parsed).error();
    const TransferSyntax* syntax = find_transfer_syntax(parsed->meta.transfer_syntax_uid);
    if (!syntax) return reject_error("the transfer syntax of the file is not supported");
    DataSetScanner scanner(*syntax, {.max_bytes = std::numeric_limits<std::uint64_t>::max() / 2});
    Sha256 hash;
    std::span<const std::byte> data = part->subspan(parsed->data_set_offset);
    ReceivedInstance instance;
    while (true) {
        if (auto fed = scanner.feed(data); !fed) return std::move(fed).error();
        hash.update(data);
        instance.bytes += static_cast<std::int64_t>(data.size());
        part = read_some();
        if (!part) return std::move(part).error();
        if (part->empty()) break;
        data = *part;
    }
    auto facts = scanner.finish();
    if (!facts) return std::move(facts).error();
    if (auto same = check_identity(*facts, parsed->meta.sop_class_uid, parsed->meta.sop_instance_uid); !same)
        return std::move(same).error();
    instance.study_instance_uid = facts->study_instance_uid;
    instance.series_instance_uid = facts->series_instance_uid;
    instance.sop_instance_uid = facts->sop_instance_uid;
    instance.sop_class_uid = facts->sop_class_uid;
    instance.transfer_syntax_uid = parsed->meta.transfer_syntax_uid;
    instance.modality = facts->modality;
    instance.patient_mark = patient_mark(patient_key, facts->patient_id);
    instance.sha256 = hash.hex_digest();
    instance.calling_ae_title = parsed->meta.sending_ae_title;
    instance.called_ae_title = parsed->meta.receiving_ae_title;
    instance.received_at = Moment(Milliseconds(static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1000));
    return instance;
}

}  // namespace cardionode
