// A PACS that misbehaves in every way that we could think of, and what becomes of an output then. The table is the
// rule; facts behind it: PS3.4 B.2.3, PS3.7 C, PS3.8 9.3.4.
//
// For each row: the output is sent once to a PACS of that manner. Then the PACS behaves, and in the end it holds the
// output once, under its one UID, whatever happened before: never lost, never doubled.
#include <ostream>

#include <gmock/gmock.h>

#include "tests/pipeline/send/sending_fixture.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

namespace {

enum class Becomes {
    Sent,   ///< the PACS has it
    Again,  ///< tried again after a pause, by itself
    Aside,  ///< set aside with the reason; a person tries again. No storm of repeats
};

struct Row {
    const char* name;
    Manner manner;
    int status;
    Becomes becomes;
    const char* words;            ///< stand in the note of what was sent, and in the error of what was not
    bool has_it_already = false;  ///< the PACS kept the object although we could not know
    int side = 32;                ///< pixels a side
};
std::ostream& operator<<(std::ostream& out, const Row& row) { return out << row.name; }

using enum Becomes;
constexpr bool kHasIt = true;
const Row kRows[] = {
    // --- no association
    {"RejectsForGood", Manner::RejectForGood, 0, Aside, "rejected for good: called AE title not recognised"},
    {"RejectsForNow", Manner::RejectForNow, 0, Again, "rejected for the moment: local limit exceeded"},
    {"ClosesAtOnce", Manner::CloseAtOnce, 0, Again, "no association"},
    {"ResetsAtOnce", Manner::ResetAtOnce, 0, Again, "no association"},
    {"SaysNothing", Manner::SayNothing, 0, Again, "no association"},
    {"AbortsTheRequest", Manner::AbortOnAssociate, 0, Again, "no association"},
    {"AnswersTheRequestWithGarbage", Manner::GarbageOnAssociate, 0, Again, "no association"},
    {"AcceptsNoContext", Manner::NoContext, 0, Aside, "no presentation context was accepted"},
    {"AcceptsAnotherTransferSyntax", Manner::OtherSyntax, 0, Aside, "no presentation context was accepted"},
    // --- no answer that counts, though the object arrived
    {"AbortsAfterTheObject", Manner::AbortOnStore, 0, Again, "C-STORE", kHasIt},
    {"ClosesAfterTheObject", Manner::CloseOnStore, 0, Again, "C-STORE", kHasIt},
    {"ResetsAfterTheObject", Manner::ResetOnStore, 0, Again, "C-STORE", kHasIt},
    {"AnswersWithGarbage", Manner::GarbageOnStore, 0, Again, "C-STORE", kHasIt},
    {"AnswersHalf", Manner::HalfAnswer, 0, Again, "C-STORE", kHasIt},
    {"AnswersWith4GB", Manner::HugeAnswer, 0, Again, "C-STORE", kHasIt},
    {"NeverAnswers", Manner::NoAnswerToStore, 0, Again, "no answer to the C-STORE within 1 s", kHasIt},
    {"AnswersTooLate", Manner::LateAnswer, 0, Again, "no answer to the C-STORE within 1 s", kHasIt},
    {"AnswersForAnotherMessage", Manner::WrongMessage, 0, Again, "C-STORE", kHasIt},
    {"AnswersForAnotherInstance", Manner::WrongInstance, 0, Again, "another instance", kHasIt},
    {"AnswersAnotherCommand", Manner::WrongCommand, 0, Again, "C-STORE", kHasIt},
    {"AnswersWithoutAStatus", Manner::NoStatus, 0, Again, "C-STORE", kHasIt},
    // --- an answer that counts, however odd the rest is
    {"AnswersTwice", Manner::DoubleAnswer, 0, Sent, "", kHasIt},
    {"ClosesAfterTheAnswer", Manner::CloseAfterAnswer, 0, Sent, "", kHasIt},
    {"DoesNotAnswerTheRelease", Manner::NoAnswerToRelease, 0, Sent, "", kHasIt},
    {"TakesTinyPdus", Manner::TinyPdu, 0, Sent, "", kHasIt},
    {"ReadsSlowly", Manner::SlowReader, 0, Sent, "", kHasIt, 300},
    {"StopsReading", Manner::StopReading, 0, Again, "", !kHasIt, 4000},
    // --- every class of status
    {"Success0000", Manner::Answer, 0x0000, Sent, "", kHasIt},
    {"Warning0001", Manner::Answer, 0x0001, Sent, "warning (status 0x0001)", kHasIt},
    {"WarningB000", Manner::Answer, 0xB000, Sent, "warning (status 0xB000)", kHasIt},
    {"WarningB006", Manner::Answer, 0xB006, Sent, "warning (status 0xB006)", kHasIt},
    {"WarningB007", Manner::Answer, 0xB007, Sent, "warning (status 0xB007)", kHasIt},
    {"AttributeWarning0107", Manner::Answer, 0x0107, Sent, "warning (status 0x0107)", kHasIt},
    {"Duplicate0111", Manner::Answer, 0x0111, Sent, "already there (status 0x0111)", kHasIt},
    {"OutOfResourcesA700", Manner::Answer, 0xA700, Again, "out of resources (status 0xA700)"},
    {"ProcessingFailure0110", Manner::Answer, 0x0110, Again, "processing failure (status 0x0110)"},
    {"ResourceLimitation0213", Manner::Answer, 0x0213, Again, "resource limitation (status 0x0213)"},
    {"CancelFE00", Manner::Answer, 0xFE00, Again, "unknown status (status 0xFE00)"},
    {"PendingFF00", Manner::Answer, 0xFF00, Again, "unknown status (status 0xFF00)"},
    {"Invented1234", Manner::Answer, 0x1234, Again, "unknown status (status 0x1234)"},
    {"DoesNotMatchA900", Manner::Answer, 0xA900, Aside, "does not match SOP class (status 0xA900)"},
    {"NotUnderstoodC000", Manner::Answer, 0xC000, Aside, "cannot understand (status 0xC000)"},
    {"ClassNotSupported0122", Manner::Answer, 0x0122, Aside, "SOP class not supported (status 0x0122)"},
    {"NotAuthorised0124", Manner::Answer, 0x0124, Aside, "not authorised (status 0x0124)"},
    {"UnrecognisedOperation0211", Manner::Answer, 0x0211, Aside, "unrecognised operation (status 0x0211)"},
};

class MisbehavingPacs : public Sending, public testing::WithParamInterface<Row> {};

}  // namespace

TEST_P(MisbehavingPacs, GetsTheOutputOnce) {
    const Row& row = GetParam();
    finish_study({"pacs1"}, 1, row.side);
    const std::string uid = outputs()[0].output.sop_instance_uid;
    Peer pacs(row.manner, static_cast<std::uint16_t>(row.status));
    auto sender = worker("pacs1", pacs.port());

    ASSERT_TRUE(*sender.send_next());
    const OutputRow first = outputs()[0];
    const char* states[] = {"sent", "waiting", "set_aside"};
    ASSERT_EQ(first.state, states[static_cast<int>(row.becomes)]) << first.last_error;
    EXPECT_THAT(row.becomes == Sent ? first.note : first.last_error, HasSubstr(row.words));
    EXPECT_THAT(first.last_error, testing::Not(HasSubstr(uid)));
    EXPECT_FALSE(*sender.send_next()) << "nothing is repeated at once";
    const int connections = pacs.connections();

    pacs.set_manner(Manner::Answer, row.has_it_already ? 0x0111 : 0);
    clock_.advance(std::chrono::hours(1));
    if (row.becomes != Again) {
        EXPECT_FALSE(*sender.send_next());
    }
    if (row.becomes == Aside) {
        ASSERT_TRUE(Queue::open(database_, clock_)->retry(key_).ok());
    }
    EXPECT_EQ(*sender.send_next(), row.becomes != Sent);
    EXPECT_EQ(outputs()[0].state, "sent") << outputs()[0].last_error;
    EXPECT_EQ(study().state, StudyState::Done);
    EXPECT_EQ(pacs.connections(), connections + (row.becomes == Sent ? 0 : 1));
    const int times = (row.has_it_already ? 1 : 0) + (row.becomes == Sent ? 0 : 1);
    EXPECT_THAT(pacs.held(), ElementsAre(Pair(uid, times))) << "the same UID each time: one object";
}

INSTANTIATE_TEST_SUITE_P(Manners, MisbehavingPacs, testing::ValuesIn(kRows),
                         [](const auto& info) { return std::string(info.param.name); });
