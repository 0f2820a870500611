// What this node can store: the SOP classes it accepts and the transfer syntaxes it keeps, as tables.
//
// Thread safety: constant tables and pure functions. No DCMTK.
#pragma once

#include <span>
#include <string_view>

namespace cardionode {

/// How the elements of a data set are written (PS3.5 7.1, A.1-A.5).
enum class Encoding { ImplicitLittle, ExplicitLittle, ExplicitBig, Deflated };

struct TransferSyntax {
    std::string_view uid;
    std::string_view name;
    Encoding encoding = Encoding::ExplicitLittle;
    bool encapsulated = false;  ///< pixel data stands in fragments (PS3.5 A.4)
};

struct SopClass {
    std::string_view uid;
    std::string_view name;
};

inline constexpr std::string_view kApplicationContext = "1.2.840.10008.3.1.1.1";
inline constexpr std::string_view kVerificationSopClass = "1.2.840.10008.1.1";
inline constexpr std::string_view kImplicitLittle = "1.2.840.10008.1.2";

/// Ours, in every file and association: derived from a UUID (PS3.5 B.2), so no registration is needed.
inline constexpr std::string_view kImplementationClassUid = "2.25.147940932000210935763483617667505347174";
inline constexpr std::string_view kImplementationVersion = "CARDIONODE_0_1";  // at most 16 characters

/// Every transfer syntax that is received and kept as it came. nullptr: not supported.
const TransferSyntax* find_transfer_syntax(std::string_view uid);
std::span<const TransferSyntax> transfer_syntaxes();

/// Storage SOP classes that are received. nullptr: not supported (Verification is not in this table).
const SopClass* find_storage_class(std::string_view uid);
std::span<const SopClass> storage_classes();

}  // namespace cardionode
