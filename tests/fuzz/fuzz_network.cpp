// PDUs, command sets, storage commitment and file meta information. The first byte chooses which.
#include <vector>

#include "scp/dicom/command.h"
#include "scp/dicom/commitment.h"
#include "scp/dicom/part10.h"
#include "scp/dicom/pdu.h"
#include "tests/fuzz/fuzz_input.h"

using namespace cardionode;

namespace {

std::span<const std::byte> body_of(const std::vector<std::byte>& pdu) {
    return std::span(pdu).subspan(kPduHeaderBytes);
}

/// What was read can be answered, and the requestor can read the answer.
void associate(std::span<const std::byte> bytes) {
    const auto request = parse_associate_request(bytes);
    if (!request) return;
    CARDIONODE_PROMISE(!request->contexts.empty() && request->contexts.size() <= 128);
    CARDIONODE_PROMISE(request->called_ae_title.size() <= 16 && request->calling_ae_title.size() <= 16);
    std::vector<AnsweredContext> answers;
    for (const ProposedContext& context : request->contexts) {
        CARDIONODE_PROMISE(context.id % 2 == 1 && !context.transfer_syntaxes.empty());
        answers.push_back({context.id, ContextResult::Accepted, context.abstract_syntax, context.transfer_syntaxes[0]});
    }
    const auto accept = write_associate_accept(*request, answers, 131072, request->roles);
    const auto read = parse_associate_accept(body_of(accept));
    CARDIONODE_PROMISE(read.ok() && read->contexts.size() == answers.size());
}

void data_values(std::span<const std::byte> bytes) {
    const auto values = parse_data_values(bytes);
    if (!values) return;
    std::size_t total = 0;
    for (const DataValue& value : *values) {
        CARDIONODE_PROMISE(value.bytes.empty() ||
                           (value.bytes.data() >= bytes.data() &&
                            value.bytes.data() + value.bytes.size() <= bytes.data() + bytes.size()));
        total += 6 + value.bytes.size();
    }
    CARDIONODE_PROMISE(total == bytes.size());
}

void command(std::span<const std::byte> bytes) {
    const auto parsed = parse_command(bytes);
    if (!parsed) return;
    const auto answer = parse_command(write_response(*parsed, 0x0110, "a comment"));
    CARDIONODE_PROMISE(answer.ok() && answer->is_response() && answer->status == 0x0110);
    CARDIONODE_PROMISE(answer->message_id == parsed->message_id && !answer->has_data_set);
}

void commitment(Encoding encoding, std::span<const std::byte> bytes) {
    const auto parsed = parse_commitment(encoding, bytes);
    if (!parsed) return;
    const auto again = parse_commitment(encoding, write_commitment(encoding, *parsed));
    CARDIONODE_PROMISE(again.ok() && *again == *parsed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const auto bytes = fuzz::bytes_of(data + 1, size - 1);
    switch (data[0] % 7) {
        case 0: associate(bytes); break;
        case 1: (void)parse_associate_accept(bytes); break;
        case 2: data_values(bytes); break;
        case 3: command(bytes); break;
        case 4: commitment(Encoding::ImplicitLittle, bytes); break;
        case 5: commitment(Encoding::ExplicitLittle, bytes); break;
        default:
            if (const auto meta = parse_file_meta(bytes)) CARDIONODE_PROMISE(meta->data_set_offset <= bytes.size());
    }
    return 0;
}
