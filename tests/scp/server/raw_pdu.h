// Bytes of the DICOM upper layer and of command sets, right or wrong, made by hand (PS3.8 9.3, PS3.7 6.3).
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/data_set.h"

namespace cardionode::test {

std::string be(std::size_t value, int bytes);  ///< big-endian, as the upper layer has it
std::string le(std::size_t value, int bytes);  ///< little-endian, as command sets have it

std::string pdu(int type, const std::string& body);
std::string reject_pdu(int result, int source, int reason);
std::string abort_pdu(int source, int reason);
std::string release_pdu();
/// An item or sub-item of an association request.
std::string item(int type, const std::string& body);

struct Proposal {
    int id;
    std::string abstract_syntax;
    std::vector<std::string> transfer_syntaxes;
};
std::string context_item(const Proposal& proposal);
/// Maximum length, implementation class and version. @param more  further sub-items
std::string user_information(std::uint32_t max_pdu = 16384, const std::string& more = {});
/// An A-ASSOCIATE-RQ of these items.
std::string associate_pdu(const std::string& items, const std::string& called = "CARDIONODE",
                          const std::string& calling = "CT1", int version = 1);
std::string associate_request(const std::vector<Proposal>& proposals, const std::string& called = "CARDIONODE",
                              const std::string& calling = "CT1",
                              const std::string& application_context = "1.2.840.10008.3.1.1.1", int version = 1,
                              std::uint32_t max_pdu = 16384);
/// @param control  1: command, 2: last fragment
std::string data_pdu(int context, int control, const std::string& bytes);
/// A data set in PDUs of 16,000 bytes.
std::string data_set_pdus(int context, const std::string& bytes);

/// An element (0000,number).
std::string element(int number, std::string value);
/// Elements behind their group length.
std::string command_set(const std::string& elements);
/// A request of any kind. @param data_set_type  0x0101: none follows
std::string request_command(int field, const std::string& sop_class, int data_set_type = 0x0101, int message_id = 1,
                            const std::string& more = {});
std::string store_command(const Instance& instance, int message_id = 1, int data_set_type = 0);
std::string echo_command(int message_id = 1);
/// Status and error comment of a response PDU; {-1, ""}: it is none.
std::pair<int, std::string> response_of(const std::string& pdu);

}  // namespace cardionode::test
