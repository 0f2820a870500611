#include "scp/dicom/part10.h"

#include <algorithm>

#include "scp/dicom/syntaxes.h"

namespace cardionode {
namespace {

constexpr std::size_t kPreamble = 128;

void put(std::vector<std::byte>& out, std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
}

void put_text(std::vector<std::byte>& out, std::string_view text) {
    for (const char c : text) out.push_back(static_cast<std::byte>(c));
}

void put_element(std::vector<std::byte>& out, unsigned element, std::string_view vr, std::string_view text) {
    if (text.empty()) return;
    put(out, 0x0002, 2);
    put(out, element, 2);
    put_text(out, vr);
    put(out, text.size() + text.size() % 2, 2);
    put_text(out, text);
    if (text.size() % 2 == 1) put_text(out, vr == "UI" ? std::string_view("\0", 1) : std::string_view(" "));
}

std::size_t little(std::span<const std::byte> bytes) {
    std::size_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<std::size_t>(bytes[i]);
    return value;
}

std::string trimmed(std::span<const std::byte> bytes) {
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    while (!text.empty() && (text.back() == '\0' || text.back() == ' ')) text.pop_back();
    return text;
}

}  // namespace

std::vector<std::byte> write_file_meta(const FileMeta& meta) {
    std::vector<std::byte> elements;
    put(elements, 0x0002, 2);  // File Meta Information Version, OB: 00 01
    put(elements, 0x0001, 2);
    put_text(elements, "OB");
    put(elements, 0, 2);
    put(elements, 2, 4);
    put(elements, 0x0100, 2);
    put_element(elements, 0x0002, "UI", meta.sop_class_uid);
    put_element(elements, 0x0003, "UI", meta.sop_instance_uid);
    put_element(elements, 0x0010, "UI", meta.transfer_syntax_uid);
    put_element(elements, 0x0012, "UI", kImplementationClassUid);
    put_element(elements, 0x0013, "SH", kImplementationVersion);
    put_element(elements, 0x0017, "AE", meta.sending_ae_title);
    put_element(elements, 0x0018, "AE", meta.receiving_ae_title);

    std::vector<std::byte> out(kPreamble);
    put_text(out, "DICM");
    put(out, 0x0002, 2);
    put(out, 0x0000, 2);
    put_text(out, "UL");
    put(out, 4, 2);
    put(out, elements.size(), 4);
    out.insert(out.end(), elements.begin(), elements.end());
    return out;
}

Result<ParsedFileMeta> parse_file_meta(std::span<const std::byte> beginning) {
    if (beginning.size() < kPreamble + 4 + 12 || trimmed(beginning.subspan(kPreamble, 4)) != "DICM")
        return reject_error("not a DICOM file");
    std::size_t at = kPreamble + 4;
    const auto number = [&](std::size_t offset, std::size_t bytes) {
        return little(beginning.subspan(at + offset, bytes));
    };
    if (number(0, 2) != 0x0002 || number(2, 2) != 0x0000 || number(6, 2) != 4)
        return reject_error("the file's meta header does not begin with its length");
    const std::size_t end = at + 12 + number(8, 4);
    if (end > beginning.size()) return reject_error("the file's meta header is cut off");
    at += 12;
    ParsedFileMeta parsed;
    while (at < end) {
        if (end - at < 8 || number(0, 2) != 0x0002) return reject_error("the file's meta header is damaged");
        const std::size_t element = number(2, 2);
        const std::string vr = trimmed(beginning.subspan(at + 4, 2));
        const bool long_form = vr == "OB" || vr == "UN" || vr == "OW" || vr == "UT" || vr == "SQ";
        if (long_form && end - at < 12) return reject_error("the file's meta header is damaged");
        const std::size_t header = long_form ? 12 : 8;
        const std::size_t length = long_form ? number(8, 4) : number(6, 2);
        if (length > end - at - header) return reject_error("the file's meta header is damaged");
        const auto value = beginning.subspan(at + header, length);
        if (element == 0x0002) parsed.meta.sop_class_uid = trimmed(value);
        if (element == 0x0003) parsed.meta.sop_instance_uid = trimmed(value);
        if (element == 0x0010) parsed.meta.transfer_syntax_uid = trimmed(value);
        if (element == 0x0017) parsed.meta.sending_ae_title = trimmed(value);
        if (element == 0x0018) parsed.meta.receiving_ae_title = trimmed(value);
        at += header + length;
    }
    parsed.data_set_offset = end;
    return parsed;
}

}  // namespace cardionode
