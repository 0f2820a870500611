#include "scp/dicom/commitment.h"

#include <array>

#include "scp/dicom/uid.h"

namespace cardionode {
namespace {

constexpr std::uint32_t kSopClass = 0x00081150, kSopInstance = 0x00081155, kTransaction = 0x00081195,
                        kReason = 0x00081197, kFailed = 0x00081198, kReferenced = 0x00081199;
constexpr std::uint32_t kItem = 0xfffee000, kItemEnd = 0xfffee00d, kSequenceEnd = 0xfffee0dd;
constexpr std::uint32_t kUndefined = 0xffffffff;
constexpr std::size_t kMaxDepth = 16;  // sequences and items; ours have one of each
constexpr std::size_t kMaxUidBytes = 64;

bool has_long_form(std::string_view vr) {
    constexpr std::array<std::string_view, 13> kLong = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ",
                                                        "SV", "UC", "UN", "UR", "UT", "UV"};
    for (const std::string_view known : kLong)
        if (vr == known) return true;
    return false;
}

class Parser {
public:
    Parser(bool explicit_vr, std::span<const std::byte> bytes) : explicit_vr_(explicit_vr), bytes_(bytes) {}

    Result<CommitmentData> run() {
        while (true) {
            if (auto closed = close_what_ends_here(); !closed) return std::move(closed).error();
            if (at_ == bytes_.size()) break;
            if (auto read = next(); !read) return std::move(read).error();
        }
        if (!open_.empty()) return reject_error("the data set ends inside a sequence");
        if (!is_valid_uid(data_.transaction_uid)) return reject_error("the Transaction UID is absent or no UID");
        return std::move(data_);
    }

private:
    struct Open {
        std::uint32_t tag;  ///< of a sequence, or kItem
        std::size_t end;    ///< npos: ends with a delimiter
    };
    static constexpr std::size_t kNoEnd = static_cast<std::size_t>(-1);

    std::uint32_t number(std::size_t at, int width) const {
        std::uint32_t value = 0;
        for (int i = width; i-- > 0;)
            value = value << 8 | std::to_integer<std::uint32_t>(bytes_[at + static_cast<std::size_t>(i)]);
        return value;
    }
    std::string text(std::size_t at, std::size_t size) const {
        std::string value(reinterpret_cast<const char*>(bytes_.data()) + at, size);
        while (!value.empty() && (value.back() == '\0' || value.back() == ' ')) value.pop_back();
        return value;
    }

    Result<void> close_what_ends_here() {
        while (!open_.empty() && open_.back().end != kNoEnd && at_ >= open_.back().end) {
            if (at_ > open_.back().end) return reject_error("an element goes past the end of its sequence or item");
            if (auto closed = close(); !closed) return closed;
        }
        return {};
    }
    Result<void> close() {
        const bool item = open_.back().tag == kItem;
        open_.pop_back();
        if (!item || open_.size() != 1) return {};
        std::vector<SopReference>* list = list_of(open_.back().tag);
        if (!list) return {};
        if (!is_valid_uid(reference_.sop_class_uid) || !is_valid_uid(reference_.sop_instance_uid))
            return reject_error("a referenced instance has no valid SOP Class or Instance UID");
        if (data_.referenced.size() + data_.failed.size() == kMaxCommitmentReferences)
            return reject_error("too many referenced instances");
        list->push_back(std::move(reference_));
        return {};
    }
    std::vector<SopReference>* list_of(std::uint32_t tag) {
        return tag == kReferenced ? &data_.referenced : tag == kFailed ? &data_.failed : nullptr;
    }
    Result<void> open(std::uint32_t tag, std::uint32_t length) {
        if (open_.size() == kMaxDepth) return reject_error("sequences are nested too deeply");
        if (length != kUndefined && length > bytes_.size() - at_) return reject_error("a sequence goes past the end");
        if (tag == kItem && open_.size() == 1) reference_ = {};
        open_.push_back({tag, length == kUndefined ? kNoEnd : at_ + length});
        return {};
    }

    Result<void> next() {
        if (bytes_.size() - at_ < 8) return reject_error("an element is cut off");
        const std::uint32_t tag = number(at_, 2) << 16 | number(at_ + 2, 2);
        const bool in_sequence = !open_.empty() && open_.back().tag != kItem;
        if (tag >> 16 == 0xfffe) {
            const std::uint32_t length = number(at_ + 4, 4);
            at_ += 8;
            if (tag == kItem && in_sequence) return open(kItem, length);
            const bool ends = !open_.empty() && open_.back().end == kNoEnd && length == 0 &&
                              ((tag == kItemEnd && !in_sequence) || (tag == kSequenceEnd && in_sequence));
            if (!ends) return reject_error("an item or delimiter stands where none belongs");
            return close();
        }
        if (in_sequence) return reject_error("a sequence holds something else than items");
        return element(tag);
    }

    Result<void> element(std::uint32_t tag) {
        bool sequence = tag == kReferenced || tag == kFailed;
        std::uint32_t length = 0;
        if (explicit_vr_) {
            const std::string vr = {static_cast<char>(bytes_[at_ + 4]), static_cast<char>(bytes_[at_ + 5])};
            sequence = vr == "SQ";
            if (has_long_form(vr)) {
                if (bytes_.size() - at_ < 12) return reject_error("an element is cut off");
                length = number(at_ + 8, 4);
                at_ += 12;
            } else {
                length = number(at_ + 6, 2);
                at_ += 8;
            }
        } else {
            length = number(at_ + 4, 4);
            at_ += 8;
            sequence = sequence || length == kUndefined;  // only a sequence has no length (PS3.5 7.1.2)
        }
        if (sequence) return open(tag, length);
        if (length > bytes_.size() - at_) return reject_error("an element goes past the end");
        const std::size_t value = at_;
        at_ += length;
        return take(tag, value, length);
    }
    Result<void> take(std::uint32_t tag, std::size_t at, std::size_t length) {
        const bool uid = tag == kTransaction || tag == kSopClass || tag == kSopInstance;
        if (uid && length > kMaxUidBytes) return reject_error("a UID is too long");
        if (open_.empty()) {
            if (tag == kTransaction) data_.transaction_uid = text(at, length);
        } else if (open_.size() == 2) {
            if (tag == kSopClass) reference_.sop_class_uid = text(at, length);
            if (tag == kSopInstance) reference_.sop_instance_uid = text(at, length);
            if (tag == kReason && length == 2) reference_.reason = static_cast<std::uint16_t>(number(at, 2));
        }
        return {};
    }

    bool explicit_vr_;
    std::span<const std::byte> bytes_;
    std::size_t at_ = 0;
    std::vector<Open> open_;
    SopReference reference_;  ///< of the open item
    CommitmentData data_;
};

class Writer {
public:
    explicit Writer(bool explicit_vr) : explicit_vr_(explicit_vr) {}
    std::vector<std::byte> bytes;

    void number(std::size_t value, int width) {
        for (int i = 0; i < width; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
    }
    void header(std::uint32_t tag, std::string_view vr, std::size_t length) {
        number(tag >> 16, 2);
        number(tag & 0xffff, 2);
        if (!explicit_vr_ || tag >> 16 == 0xfffe) return number(length, 4);
        for (const char c : vr) bytes.push_back(static_cast<std::byte>(c));
        if (!has_long_form(vr)) return number(length, 2);
        number(0, 2);
        number(length, 4);
    }
    void uid(std::uint32_t tag, std::string_view value) {
        header(tag, "UI", value.size() + value.size() % 2);
        for (const char c : value) bytes.push_back(static_cast<std::byte>(c));
        if (value.size() % 2 == 1) bytes.push_back(std::byte{0});
    }
    void sequence(std::uint32_t tag, const std::vector<SopReference>& references, bool with_reason) {
        if (references.empty()) return;
        Writer items(explicit_vr_);
        for (const SopReference& reference : references) {
            Writer item(explicit_vr_);
            item.uid(kSopClass, reference.sop_class_uid);
            item.uid(kSopInstance, reference.sop_instance_uid);
            if (with_reason) {
                item.header(kReason, "US", 2);
                item.number(reference.reason, 2);
            }
            items.header(kItem, "", item.bytes.size());
            items.bytes.insert(items.bytes.end(), item.bytes.begin(), item.bytes.end());
        }
        header(tag, "SQ", items.bytes.size());
        bytes.insert(bytes.end(), items.bytes.begin(), items.bytes.end());
    }

private:
    bool explicit_vr_;
};

}  // namespace

Result<CommitmentData> parse_commitment(Encoding encoding, std::span<const std::byte> bytes) {
    if (encoding != Encoding::ImplicitLittle && encoding != Encoding::ExplicitLittle)
        return reject_error("the encoding is not one that storage commitment uses here");
    if (bytes.size() > kMaxCommitmentBytes) return reject_error("the data set is too large");
    return Parser(encoding == Encoding::ExplicitLittle, bytes).run();
}

std::vector<std::byte> write_commitment(Encoding encoding, const CommitmentData& data) {
    Writer writer(encoding == Encoding::ExplicitLittle);
    writer.uid(kTransaction, data.transaction_uid);
    writer.sequence(kFailed, data.failed, true);
    writer.sequence(kReferenced, data.referenced, false);
    return std::move(writer.bytes);
}

}  // namespace cardionode
