#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scp/dicom/command.h"
#include "scp/dicom/part10.h"
#include "scp/dicom/pdu.h"
#include "scp/dicom/syntaxes.h"
#include "scp/dicom/uid.h"

using namespace cardionode;

namespace {

using Bytes = std::vector<std::byte>;

Bytes& add(Bytes& out, std::initializer_list<int> values) {
    for (const int value : values) out.push_back(static_cast<std::byte>(value));
    return out;
}
Bytes& add(Bytes& out, std::string_view text) {
    for (const char c : text) out.push_back(static_cast<std::byte>(c));
    return out;
}
Bytes item(int type, std::string_view body) {
    Bytes out;
    add(out, {type, 0, static_cast<int>(body.size() >> 8), static_cast<int>(body.size() & 0xff)});
    return add(out, body);
}
std::string text(const Bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::string context(int id, std::string_view abstract_syntax, std::vector<std::string_view> syntaxes) {
    std::string body{static_cast<char>(id), 0, 0, 0};
    body += text(item(0x30, abstract_syntax));
    for (const std::string_view syntax : syntaxes) body += text(item(0x40, syntax));
    return text(item(0x20, body));
}

std::string fixed(std::string_view called = "CARDIONODE", std::string_view calling = "CT1") {
    std::string body{0, 1, 0, 0};
    body += std::string(called) + std::string(16 - called.size(), ' ');
    body += std::string(calling) + std::string(16 - calling.size(), ' ');
    return body + std::string(32, '\0');
}

Result<AssociateRequest> parse(const std::string& body) {
    return parse_associate_request(std::as_bytes(std::span(body.data(), body.size())));
}

const std::string kApplication = text(item(0x10, kApplicationContext));
const std::string kUser = text(item(0x50, text(item(0x51, std::string{0, 0, 64, 0})) + text(item(0x55, "SOMEBODY"))));

}  // namespace

TEST(AssociateRequest, IsReadWithItsContexts) {
    const auto request =
        parse(fixed() + kApplication + context(1, kVerificationSopClass, {kImplicitLittle}) +
              context(3, "1.2.840.10008.5.1.4.1.1.2", {"1.2.840.10008.1.2.4.90", kImplicitLittle}) + kUser);
    ASSERT_TRUE(request.ok()) << request.error().message;
    EXPECT_EQ(request->called_ae_title, "CARDIONODE");
    EXPECT_EQ(request->calling_ae_title, "CT1");
    EXPECT_EQ(request->application_context, kApplicationContext);
    EXPECT_EQ(request->max_pdu, 16384U);
    EXPECT_EQ(request->implementation_version, "SOMEBODY");
    ASSERT_EQ(request->contexts.size(), 2U);
    EXPECT_EQ(request->contexts[1].id, 3);
    EXPECT_EQ(request->contexts[1].transfer_syntaxes[0], "1.2.840.10008.1.2.4.90");
}

TEST(AssociateRequest, IgnoresUnknownItems) {
    const auto request =
        parse(fixed() + kApplication + text(item(0x77, "future")) +
              context(1, kVerificationSopClass, {kImplicitLittle}) + text(item(0x50, text(item(0x59, "x")))));
    EXPECT_TRUE(request.ok()) << request.error().message;
}

TEST(AssociateRequest, IsRefusedWhenCutOrContradictory) {
    const std::string whole = fixed() + kApplication + context(1, kVerificationSopClass, {kImplicitLittle}) + kUser;
    int accepted = 0;
    for (std::size_t length = 0; length < whole.size(); ++length)
        accepted += parse(whole.substr(0, length)).ok() ? 1 : 0;
    EXPECT_EQ(accepted, 1);  // only where nothing but the user information is missing
    const std::string begin = fixed() + kApplication;
    EXPECT_FALSE(parse(begin + kUser).ok());
    EXPECT_FALSE(parse(begin + context(2, kVerificationSopClass, {kImplicitLittle})).ok());
    EXPECT_FALSE(parse(begin + context(1, kVerificationSopClass, {})).ok());
    EXPECT_FALSE(parse(begin + context(1, kVerificationSopClass, {kImplicitLittle}) +
                       context(1, kVerificationSopClass, {kImplicitLittle}))
                     .ok());
    EXPECT_FALSE(parse(begin + context(1, std::string(200, '1'), {kImplicitLittle})).ok());
    EXPECT_FALSE(parse(begin + kApplication + context(1, kVerificationSopClass, {kImplicitLittle})).ok());
    EXPECT_FALSE(
        parse(begin + context(1, kVerificationSopClass, {kImplicitLittle}) + text(item(0x50, text(item(0x51, "x")))))
            .ok());
}

TEST(AssociateAccept, RepeatsTheTitlesAndAnswersEachContext) {
    const auto request = parse(fixed() + kApplication + context(1, kVerificationSopClass, {kImplicitLittle}));
    const std::vector<AnsweredContext> answers = {{1, ContextResult::Accepted, "", std::string(kImplicitLittle)}};
    const std::string pdu = text(write_associate_accept(*request, answers, 131072));
    EXPECT_EQ(pdu[0], 2);
    EXPECT_EQ(pdu.substr(10, 16), "CARDIONODE      ");
    EXPECT_NE(pdu.find(std::string{1, 0, 0, 0, 0x40, 0, 0, 17} + std::string(kImplicitLittle)), std::string::npos);
    EXPECT_NE(pdu.find(std::string{0x51, 0, 0, 4, 0, 2, 0, 0}), std::string::npos);
    const std::size_t length = static_cast<unsigned char>(pdu[4]) * 256U + static_cast<unsigned char>(pdu[5]);
    EXPECT_EQ(length + 6, pdu.size());
}

TEST(AssociateReject, HasTheNumbersOfTheStandard) {
    EXPECT_EQ(text(write_associate_reject(kRejectCalledAe)), (std::string{3, 0, 0, 0, 0, 4, 0, 1, 1, 7}));
    EXPECT_EQ(text(write_associate_reject(kRejectTooMany)), (std::string{3, 0, 0, 0, 0, 4, 0, 2, 3, 2}));
    EXPECT_EQ(text(write_abort(2, AbortReason::UnexpectedPdu)), (std::string{7, 0, 0, 0, 0, 4, 0, 0, 2, 2}));
}

TEST(DataValues, AreReadAndRefusedWhenTheyDoNotFit) {
    Bytes body;
    add(body, {0, 0, 0, 4, 1, 3, 'a', 'b', 0, 0, 0, 2, 3, 0});
    const auto values = parse_data_values(body);
    ASSERT_TRUE(values.ok());
    ASSERT_EQ(values->size(), 2U);
    EXPECT_TRUE((*values)[0].command && (*values)[0].last);
    EXPECT_EQ((*values)[0].bytes.size(), 2U);
    EXPECT_EQ((*values)[1].context_id, 3);
    for (const Bytes& bad : {Bytes{}, Bytes(5), Bytes(6),
                             Bytes{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{9}, std::byte{1}, std::byte{0}}})
        EXPECT_FALSE(parse_data_values(bad).ok());
}

TEST(DataValues, AreWrittenNoLongerThanThePeerTakes) {
    const Bytes message(1000, std::byte{7});
    for (const std::uint32_t most : {0U, 8U, 64U, 16384U}) {
        const Bytes out = write_data_pdus(5, true, message, most);
        std::size_t at = 0, total = 0, last = 0;
        while (at < out.size()) {
            const PduHeader header = parse_pdu_header(std::span<const std::byte, 6>(out.data() + at, 6));
            EXPECT_TRUE(most == 0 || header.length <= most);
            const auto values = parse_data_values(std::span(out).subspan(at + 6, header.length));
            ASSERT_TRUE(values.ok());
            for (const DataValue& value : *values) {
                total += value.bytes.size();
                last += value.last ? 1U : 0U;
            }
            at += 6 + header.length;
        }
        EXPECT_EQ(total, message.size());
        EXPECT_EQ(last, 1U);
    }
}

TEST(Command, AResponseIsReadBackAndNamesTheMessageThatItAnswers) {
    Command request;
    request.field = command_field::kStoreRequest;
    request.message_id = 77;
    request.sop_class_uid = "1.2.840.10008.5.1.4.1.1.2";
    request.sop_instance_uid = "1.2.3";
    const auto bytes = write_response(request, status::kDataSetDoesNotMatch, "why");
    const auto response = parse_command(bytes);
    ASSERT_TRUE(response.ok()) << response.error().message;
    EXPECT_TRUE(response->is_response());
    EXPECT_EQ(response->field, 0x8001);
    EXPECT_EQ(response->message_id, 77);
    EXPECT_EQ(response->status, status::kDataSetDoesNotMatch);
    EXPECT_EQ(response->sop_instance_uid, "1.2.3");
    EXPECT_NE(text(bytes).find("why "), std::string::npos);
    // Its Message ID in the element of requests (0000,0110) names no message that it answers.
    auto wrong = bytes;
    const auto at = text(bytes).find(std::string("\0\0\x20\x01\2\0\0\0\x4d\0", 10));
    ASSERT_NE(at, std::string::npos);
    wrong[at + 2] = std::byte{0x10};
    const auto refused = parse_command(wrong);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, ::testing::HasSubstr("Message ID Being Responded To"));
}

TEST(Command, ActionsAndEventReportsCarryTheirTypesAndUids) {
    for (const std::uint16_t field : {command_field::kActionRequest, command_field::kEventReportRequest}) {
        Command request;
        request.field = field;
        request.message_id = 9;
        request.sop_class_uid = "1.2.840.10008.1.20.1";
        request.sop_instance_uid = "1.2.840.10008.1.20.1.1";
        request.type_id = 2;
        const auto read = parse_command(write_request(request));
        ASSERT_TRUE(read.ok()) << read.error().message;
        EXPECT_EQ(read->field, field);
        EXPECT_EQ(read->message_id, 9);
        EXPECT_TRUE(read->has_data_set);
        EXPECT_EQ(read->sop_class_uid, request.sop_class_uid);
        EXPECT_EQ(read->sop_instance_uid, request.sop_instance_uid);
        EXPECT_EQ(read->type_id, 2);
        const auto answered = parse_command(write_response(*read, 0));
        ASSERT_TRUE(answered.ok()) << answered.error().message;
        EXPECT_EQ(answered->type_id, 2) << "PS3.7 10.3.1.2, 10.3.5.2: the type is repeated";
        EXPECT_FALSE(answered->has_data_set);
    }
}

TEST(Associate, ARequestOfOursAndItsAnswerAreReadBack) {
    AssociateRequest request;
    request.called_ae_title = "PACS1";
    request.calling_ae_title = "CARDIONODE";
    request.max_pdu = 65536;
    request.contexts = {{1, "1.2.840.10008.1.20.1", {"1.2.840.10008.1.2.1", "1.2.840.10008.1.2"}},
                        {3, "1.2.840.10008.1.1", {"1.2.840.10008.1.2"}}};
    request.roles = {{"1.2.840.10008.1.20.1", false, true}};
    const auto bytes = write_associate_request(request);
    const auto read = parse_associate_request(std::span(bytes).subspan(kPduHeaderBytes));
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->called_ae_title, "PACS1");
    EXPECT_EQ(read->calling_ae_title, "CARDIONODE");
    EXPECT_EQ(read->max_pdu, 65536U);
    EXPECT_EQ(read->roles, request.roles);
    ASSERT_EQ(read->contexts.size(), 2U);
    EXPECT_EQ(read->contexts[0].transfer_syntaxes, request.contexts[0].transfer_syntaxes);

    const std::vector<AnsweredContext> answers = {
        {1, ContextResult::Accepted, "1.2.840.10008.1.20.1", "1.2.840.10008.1.2"},
        {3, ContextResult::UnknownAbstractSyntax, "1.2.840.10008.1.1", "1.2.840.10008.1.2"}};
    const auto answer = write_associate_accept(*read, answers, 32768, read->roles);
    const auto accept = parse_associate_accept(std::span(answer).subspan(kPduHeaderBytes));
    ASSERT_TRUE(accept.ok()) << accept.error().message;
    EXPECT_EQ(accept->max_pdu, 32768U);
    EXPECT_EQ(accept->roles, request.roles);
    ASSERT_EQ(accept->contexts.size(), 2U);
    EXPECT_EQ(accept->contexts[0].transfer_syntax, "1.2.840.10008.1.2");
    EXPECT_EQ(accept->contexts[1].result, ContextResult::UnknownAbstractSyntax);
}

TEST(Associate, EveryCutOfAnAnswerIsRefusedOrReadWithoutHarm) {
    AssociateRequest request;
    request.echoed.resize(64);
    const std::vector<AnsweredContext> answers = {{1, ContextResult::Accepted, "1.2.3", "1.2.840.10008.1.2"}};
    const std::vector<RoleSelection> roles = {{"1.2.3", false, true}};
    const auto answer = write_associate_accept(request, answers, 32768, roles);
    int refused = 0;
    for (std::size_t size = 0; size < answer.size() - kPduHeaderBytes; ++size)
        refused += parse_associate_accept(std::span(answer).subspan(kPduHeaderBytes, size)).ok() ? 0 : 1;
    EXPECT_GT(refused, 100);
}

TEST(Command, RefusesWhatIsNotFlatOrIncomplete) {
    const auto element = [](int number, std::string_view value) {
        Bytes out;
        add(out, {0, 0, number & 0xff, number >> 8, static_cast<int>(value.size()), 0, 0, 0});
        return text(add(out, value));
    };
    const auto parse_text = [](const std::string& bytes) {
        return parse_command(std::as_bytes(std::span(bytes.data(), bytes.size())));
    };
    const std::string field = element(0x100, std::string{0x30, 0}), id = element(0x110, std::string{1, 0}),
                      type = element(0x800, std::string{1, 1});
    const auto echo = parse_text(field + id + type);
    ASSERT_TRUE(echo.ok());
    EXPECT_EQ(echo->field, command_field::kEchoRequest);
    EXPECT_FALSE(echo->has_data_set);
    EXPECT_FALSE(parse_text(field + id).ok());
    EXPECT_FALSE(parse_text(id + type).ok());
    EXPECT_FALSE(parse_text(field + type).ok());
    EXPECT_FALSE(parse_text(field + field + id + type).ok());
    EXPECT_FALSE(parse_text(element(0x100, "abc") + id + type).ok());
    EXPECT_FALSE(parse_text(field + id + type + element(0x1000, std::string(80, '1'))).ok());
    const std::string whole = field + id + type;
    for (std::size_t length = 1; length < whole.size(); ++length)
        EXPECT_FALSE(parse_text(whole.substr(0, length)).ok());
}

TEST(FileMeta, IsReadBackAndHasAnEmptyPreamble) {
    const FileMeta meta{"1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", "CT1", "CARDIONODE"};
    const Bytes bytes = write_file_meta(meta);
    EXPECT_EQ(text(bytes).substr(0, 132), std::string(128, '\0') + "DICM");
    const auto parsed = parse_file_meta(bytes);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    EXPECT_EQ(parsed->data_set_offset, bytes.size());
    EXPECT_EQ(parsed->meta.sop_instance_uid, meta.sop_instance_uid);
    EXPECT_EQ(parsed->meta.transfer_syntax_uid, meta.transfer_syntax_uid);
    EXPECT_EQ(parsed->meta.sending_ae_title, "CT1");
    for (std::size_t length = 0; length < bytes.size(); ++length)
        EXPECT_FALSE(parse_file_meta(std::span(bytes).first(length)).ok());
}

TEST(Syntaxes, AreValidAndTheStandardOnesAreThere) {
    EXPECT_TRUE(is_valid_uid(kImplementationClassUid));
    EXPECT_LE(kImplementationVersion.size(), 16U);
    for (const TransferSyntax& syntax : transfer_syntaxes()) EXPECT_TRUE(is_valid_uid(syntax.uid)) << syntax.name;
    for (const SopClass& sop_class : storage_classes()) EXPECT_TRUE(is_valid_uid(sop_class.uid)) << sop_class.name;
    for (const char* uid :
         {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",
          "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.481.3"})
        EXPECT_NE(find_storage_class(uid), nullptr) << uid;
    EXPECT_EQ(find_storage_class(kVerificationSopClass), nullptr);
    EXPECT_EQ(find_transfer_syntax("1.2"), nullptr);
}
