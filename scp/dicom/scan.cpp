#include "scp/dicom/scan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "scp/dicom/inflater.h"
#include "scp/dicom/uid.h"

namespace cardionode {
namespace {

constexpr std::uint32_t kUndefined = 0xffffffff;
constexpr std::uint64_t kNoEnd = std::numeric_limits<std::uint64_t>::max();
constexpr std::size_t kMaxValue = 128;
constexpr std::uint32_t kItem = 0xfffee000, kItemEnd = 0xfffee00d, kSequenceEnd = 0xfffee0dd;
constexpr std::uint32_t kPatientId = 0x00100020;
constexpr std::uint32_t kPixelData = 0x7fe00010, kFloatPixelData = 0x7fe00008, kDoublePixelData = 0x7fe00009;

/// PS3.5 7.1.2: these have a 16-bit length; every other VR, also one defined later, a 32-bit length.
bool has_short_length(char a, char b) {
    constexpr std::string_view kShort = "AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS";
    for (std::size_t i = 0; i < kShort.size(); i += 2)
        if (kShort[i] == a && kShort[i + 1] == b) return true;
    return false;
}

enum class FrameKind { Items, Sequence, Fragments };  // a data set or item; a sequence; encapsulated pixel data

struct Frame {
    FrameKind kind = FrameKind::Items;
    bool implicit = false;
    bool big_endian = false;
    bool defined = false;  ///< ends at `end`; otherwise at its delimiter, which stands before `end`
    bool guessed = false;  ///< a private value that only looks like a sequence
    std::uint64_t end = kNoEnd;
};

}  // namespace

struct DataSetScanner::State {
    enum class Step { Header, Peek, Value, Skip };

    TransferSyntax syntax;
    ScanLimits limits;
    DataSetFacts facts;
    std::unique_ptr<Inflater> inflater;
    std::optional<Error> failed;

    std::vector<Frame> frames;
    int depth = 0;
    std::uint64_t position = 0;
    Step step = Step::Header;
    std::array<unsigned char, 12> header{};
    std::size_t header_have = 0;
    std::size_t header_need = 8;
    std::uint64_t left = 0;         ///< bytes of the current value still to come
    std::string* target = nullptr;  ///< where the current value goes
    std::uint32_t seen = 0;         ///< which wanted tags came already
    std::uint32_t tag = 0;          ///< of the current element, for messages

    Frame& top() { return frames.back(); }

    Error broken(std::string_view reason) const {
        return reject_error(
            fmt::format("element ({:04X},{:04X}) at byte {}: {}", tag >> 16, tag & 0xffff, position, reason));
    }

    std::uint32_t u16(std::size_t at) const {
        const std::uint32_t a = header[at], b = header[at + 1];
        return frames.back().big_endian ? a << 8 | b : b << 8 | a;
    }
    std::uint32_t u32(std::size_t at) const {
        const std::uint32_t a = u16(at), b = u16(at + 2);
        return frames.back().big_endian ? a << 16 | b : b << 16 | a;
    }

    void expect_header() {
        step = Step::Header;
        header_have = 0;
        header_need = 8;
    }

    void pop() {
        if (top().kind == FrameKind::Items) --depth;
        frames.pop_back();
    }

    /// Ends everything that ends exactly here.
    void close_finished() {
        while (frames.size() > 1 && top().defined && top().end == position) pop();
    }

    /// A private value that was only guessed to be a sequence is taken as plain bytes instead.
    bool fall_back() {
        for (std::size_t i = frames.size(); i-- > 1;) {
            if (!frames[i].guessed) continue;
            const std::uint64_t end = frames[i].end;
            if (position > end) return false;
            while (frames.size() > i) pop();
            left = end - position;
            target = nullptr;
            step = Step::Skip;
            if (left == 0) expect_header();
            return true;
        }
        return false;
    }

    Result<void> push(FrameKind kind, std::uint32_t length, bool implicit, bool guessed) {
        Frame frame = top();
        frame.kind = kind;
        frame.guessed = guessed;
        if (implicit && !frame.implicit) {
            frame.implicit = true;
            frame.big_endian = false;
        }
        frame.defined = length != kUndefined;
        if (frame.defined) frame.end = position + length;
        if (kind == FrameKind::Items && ++depth > ScanLimits::kMaxDepth)
            return broken(fmt::format("sequences are nested more than {} deep", ScanLimits::kMaxDepth));
        frames.push_back(frame);
        return {};
    }

    std::string* wanted() {
        if (frames.size() != 1) return nullptr;
        switch (tag) {
            case 0x00080016: return &facts.sop_class_uid;
            case 0x00080018: return &facts.sop_instance_uid;
            case 0x00080060: return &facts.modality;
            case 0x0020000d: return &facts.study_instance_uid;
            case 0x0020000e: return &facts.series_instance_uid;
            case kPatientId: return &facts.patient_id;
            default: return nullptr;
        }
    }

    Result<void> value_of(std::uint32_t length) {
        target = wanted();
        left = length;
        // No reason to refuse an image: the first one that fits counts.
        if (tag == kPatientId && (length > kMaxValue || !facts.patient_id.empty())) target = nullptr;
        if (target && tag != kPatientId) {
            const std::uint32_t bit = 1U << (tag == 0x00080016   ? 0
                                             : tag == 0x00080018 ? 1
                                             : tag == 0x00080060 ? 2
                                             : tag == 0x0020000d ? 3
                                                                 : 4);
            if (seen & bit) return broken("is there twice");
            seen |= bit;
            if (length > kMaxValue) return broken(fmt::format("a length of {} bytes is too long for it", length));
        }
        step = target ? Step::Value : Step::Skip;
        if (left == 0) expect_header();
        return {};
    }

    /// A whole header stands in `header`, and `position` is behind it.
    Result<void> element() {
        if (++facts.elements > limits.max_elements)
            return broken(fmt::format("more than {} elements", limits.max_elements));
        const Frame& frame = top();
        const bool delimiter = tag >> 16 == 0xfffe;
        std::uint32_t length = 0;
        char vr[2] = {'U', 'N'};
        if (delimiter || frame.implicit) {
            length = u32(4);
        } else {
            vr[0] = static_cast<char>(header[4]);
            vr[1] = static_cast<char>(header[5]);
            length = header_need == 12 ? u32(8) : u16(6);
        }
        if (length != kUndefined && (length > frame.end - position || position + length > limits.max_bytes))
            return broken(fmt::format("its length of {} bytes goes past the end of what holds it", length));

        if (delimiter) return delimiter_in(frame, length);
        if (frame.kind != FrameKind::Items) return broken("stands where an item is expected");
        const std::uint32_t group = tag >> 16;
        if (group == 0x0000 || group == 0x0002) return broken("has no place in a data set");

        const bool pixels = tag == kPixelData || tag == kFloatPixelData || tag == kDoublePixelData;
        const bool sequence = !frame.implicit && vr[0] == 'S' && vr[1] == 'Q';
        const bool unknown = frame.implicit || (vr[0] == 'U' && vr[1] == 'N');
        if (pixels && frames.size() == 1) {
            facts.has_pixel_data = true;
            facts.pixel_data_encapsulated = length == kUndefined;
            if (tag == kPixelData && facts.pixel_data_encapsulated != syntax.encapsulated)
                return broken(syntax.encapsulated ? "pixel data are not in fragments in a compressed transfer syntax"
                                                  : "pixel data are in fragments in an uncompressed transfer syntax");
        }
        if (sequence) {
            expect_header();
            return push(FrameKind::Sequence, length, false, false);
        }
        if (length == kUndefined) {
            expect_header();
            // Fragments may also stand in an icon image. Anything else of undefined length is a sequence (PS3.5 6.2.2).
            if (tag == kPixelData && !frame.implicit) return push(FrameKind::Fragments, length, false, false);
            if (unknown && !pixels) return push(FrameKind::Sequence, length, true, false);
            return broken("may not have an undefined length");
        }
        if (unknown && !pixels && length >= 8 && !wanted()) {
            left = length;
            step = Step::Peek;  // without a VR only the first bytes tell whether it is a sequence
            header_have = 0;
            header_need = 4;
            return {};
        }
        return value_of(length);
    }

    Result<void> delimiter_in(const Frame& frame, std::uint32_t length) {
        expect_header();
        if (frame.kind == FrameKind::Items) {
            if (tag != kItemEnd || frame.defined || frames.size() == 1) return broken("is not expected here");
            if (length != 0) return broken("a delimiter must have length 0");
            pop();
            return {};
        }
        if (tag == kSequenceEnd) {
            if (frame.defined) return broken("is not expected here");
            if (length != 0) return broken("a delimiter must have length 0");
            pop();
            return {};
        }
        if (tag != kItem) return broken("is not expected here");
        if (frame.kind == FrameKind::Sequence) return push(FrameKind::Items, length, false, false);
        if (length == kUndefined) return broken("a fragment of pixel data needs a length");
        left = length;
        target = nullptr;
        if (left != 0) step = Step::Skip;
        return {};
    }

    /// The first four bytes of a value without a VR are in `header`.
    Result<void> peeked() {
        const bool item = header[0] == 0xfe && header[1] == 0xff && header[2] == 0x00 && header[3] == 0xe0;
        if (!item) {
            left -= 4;
            target = nullptr;
            step = Step::Skip;
            return {};
        }
        position -= 4;
        auto pushed = push(FrameKind::Sequence, static_cast<std::uint32_t>(left), true, (tag >> 16) % 2 == 1);
        position += 4;
        step = Step::Header;
        header_need = 8;  // the four bytes are the beginning of the first item's header
        return pushed;
    }

    Result<void> header_complete() {
        if (header_need == 8) {
            tag = u16(0) << 16 | u16(2);
            const Frame& frame = top();
            if (tag >> 16 != 0xfffe && !frame.implicit) {
                const char a = static_cast<char>(header[4]), b = static_cast<char>(header[5]);
                if (a < 'A' || a > 'Z' || b < 'A' || b > 'Z') return broken("has no valid value representation");
                if (!has_short_length(a, b)) {
                    if (frame.end - position < 4) return broken("its header goes past the end of what holds it");
                    header_need = 12;
                    return {};
                }
            }
        }
        return element();
    }

    Result<void> consume(std::span<const std::byte> bytes) {
        if (bytes.size() > limits.max_bytes - std::min(position, limits.max_bytes))
            return reject_error(fmt::format("the data set is larger than {} bytes", limits.max_bytes));
        while (true) {
            if (step == Step::Header && header_have == 0) close_finished();
            if (bytes.empty()) return {};
            Result<void> done;
            if (step == Step::Header || step == Step::Peek) {
                if (step == Step::Header && header_have == 0 && top().end - position < 8) {
                    done = broken("is followed by less than an element");
                } else {
                    const std::size_t n = std::min(header_need - header_have, bytes.size());
                    std::memcpy(header.data() + header_have, bytes.data(), n);
                    header_have += n;
                    position += n;
                    bytes = bytes.subspan(n);
                    if (header_have < header_need) continue;
                    done = step == Step::Peek ? peeked() : header_complete();
                }
            } else {
                const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left, bytes.size()));
                if (target) target->append(reinterpret_cast<const char*>(bytes.data()), n);
                position += n;
                left -= n;
                bytes = bytes.subspan(n);
                if (left == 0) expect_header();
            }
            if (!done && (depth > ScanLimits::kMaxDepth || !fall_back())) return done;
        }
    }
};

DataSetScanner::DataSetScanner(const TransferSyntax& syntax, const ScanLimits& limits)
    : state_(std::make_unique<State>()) {
    state_->syntax = syntax;
    state_->limits = limits;
    Frame root;
    root.implicit = syntax.encoding == Encoding::ImplicitLittle;
    root.big_endian = syntax.encoding == Encoding::ExplicitBig;
    state_->frames.reserve(2 * ScanLimits::kMaxDepth + 4);
    state_->frames.push_back(root);
    if (syntax.encoding == Encoding::Deflated) state_->inflater = std::make_unique<Inflater>();
}

DataSetScanner::~DataSetScanner() = default;
DataSetScanner::DataSetScanner(DataSetScanner&&) noexcept = default;
DataSetScanner& DataSetScanner::operator=(DataSetScanner&&) noexcept = default;

Result<void> DataSetScanner::feed(std::span<const std::byte> bytes) {
    if (state_->failed) return *state_->failed;
    auto done = state_->inflater
                    ? state_->inflater->feed(bytes, [this](auto inflated) { return state_->consume(inflated); })
                    : state_->consume(bytes);
    if (!done) state_->failed = done.error();
    return done;
}

Result<DataSetFacts> DataSetScanner::finish() {
    State& state = *state_;
    if (state.failed) return *state.failed;
    if (state.inflater && !state.inflater->ended()) return reject_error("the deflated data set is cut off");
    if (state.step != State::Step::Header || state.header_have != 0)
        return state.broken("the data set ends inside an element");
    state.close_finished();
    if (state.frames.size() != 1) return state.broken("the data set ends inside a sequence");
    if (state.position == 0) return reject_error("the data set is empty");

    DataSetFacts& facts = state.facts;
    for (std::string* text : {&facts.sop_class_uid, &facts.sop_instance_uid, &facts.modality, &facts.study_instance_uid,
                              &facts.series_instance_uid, &facts.patient_id}) {
        const auto end = text->find_last_not_of(std::string_view(" \0", 2));
        text->resize(end == std::string::npos ? 0 : end + 1);
    }
    const bool coded = facts.modality.size() <= 16 && std::ranges::all_of(facts.modality, [](char c) {
                           return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ' ';
                       });
    if (!coded) facts.modality.clear();  // not a code string: as good as absent, and kept out of every record
    return facts;
}

Result<DataSetFacts> scan_data_set(const TransferSyntax& syntax, std::span<const std::byte> bytes,
                                   const ScanLimits& limits) {
    DataSetScanner scanner(syntax, limits);
    if (auto fed = scanner.feed(bytes); !fed) return std::move(fed).error();
    return scanner.finish();
}

Result<void> check_identity(const DataSetFacts& facts, const std::string& command_sop_class_uid,
                            const std::string& command_sop_instance_uid) {
    const std::pair<const std::string*, std::string_view> required[] = {
        {&facts.sop_instance_uid, "SOP Instance UID (0008,0018)"},
        {&facts.sop_class_uid, "SOP Class UID (0008,0016)"},
        {&facts.study_instance_uid, "Study Instance UID (0020,000D)"},
        {&facts.series_instance_uid, "Series Instance UID (0020,000E)"},
    };
    for (const auto& [uid, name] : required) {
        if (uid->empty()) return reject_error(fmt::format("{} is empty", name));
        if (!is_valid_uid(*uid)) return reject_error(fmt::format("{} is not a UID", name));
    }
    if (facts.sop_class_uid != command_sop_class_uid)
        return reject_error("SOP Class UID (0008,0016) differs from the command's");
    if (facts.sop_instance_uid != command_sop_instance_uid)
        return reject_error("SOP Instance UID (0008,0018) differs from the command's");
    return {};
}

}  // namespace cardionode
