#include "scp/dicom/syntaxes.h"

#include <algorithm>
#include <array>

namespace cardionode {
namespace {

// PS3.6 Table A-1. High-Throughput JPEG 2000 (.201 to .203) is not among them: no decoder of it is in Debian, so a
// scanner that would send it is to know at once and to choose another.
constexpr std::array kTransferSyntaxes = {
    TransferSyntax{"1.2.840.10008.1.2", "Implicit VR Little Endian", Encoding::ImplicitLittle, false},
    TransferSyntax{"1.2.840.10008.1.2.1", "Explicit VR Little Endian", Encoding::ExplicitLittle, false},
    TransferSyntax{"1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", Encoding::Deflated, false},
    TransferSyntax{"1.2.840.10008.1.2.2", "Explicit VR Big Endian", Encoding::ExplicitBig, false},
    TransferSyntax{"1.2.840.10008.1.2.4.50", "JPEG Baseline", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.51", "JPEG Extended", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.53", "JPEG Spectral Selection", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.55", "JPEG Full Progression", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.57", "JPEG Lossless", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.70", "JPEG Lossless SV1", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.81", "JPEG-LS Near-lossless", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.4.91", "JPEG 2000", Encoding::ExplicitLittle, true},
    TransferSyntax{"1.2.840.10008.1.2.5", "RLE Lossless", Encoding::ExplicitLittle, true},
};

// PS3.4 Table B.5-1: what a cardiac CT study may hold, what our own outputs are, and what a corrected result may be.
constexpr std::array kStorageClasses = {
    SopClass{"1.2.840.10008.5.1.4.1.1.2", "CT Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.2.1", "Enhanced CT Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.2.2", "Legacy Converted Enhanced CT Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.3.1", "Ultrasound Multi-frame Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.4", "MR Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.4.1", "Enhanced MR Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.6.1", "Ultrasound Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.7.1", "Multi-frame Single Bit Secondary Capture Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.7.2", "Multi-frame Grayscale Byte Secondary Capture Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.7.3", "Multi-frame Grayscale Word Secondary Capture Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.7.4", "Multi-frame True Color Secondary Capture Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.9.1.1", "12-lead ECG Waveform"},
    SopClass{"1.2.840.10008.5.1.4.1.1.9.1.2", "General ECG Waveform"},
    SopClass{"1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State"},
    SopClass{"1.2.840.10008.5.1.4.1.1.11.2", "Color Softcopy Presentation State"},
    SopClass{"1.2.840.10008.5.1.4.1.1.11.4", "Blending Softcopy Presentation State"},
    SopClass{"1.2.840.10008.5.1.4.1.1.12.1", "X-Ray Angiographic Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.20", "Nuclear Medicine Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.30", "Parametric Map"},
    SopClass{"1.2.840.10008.5.1.4.1.1.66", "Raw Data"},
    SopClass{"1.2.840.10008.5.1.4.1.1.66.1", "Spatial Registration"},
    SopClass{"1.2.840.10008.5.1.4.1.1.66.2", "Spatial Fiducials"},
    SopClass{"1.2.840.10008.5.1.4.1.1.66.3", "Deformable Spatial Registration"},
    SopClass{"1.2.840.10008.5.1.4.1.1.66.4", "Segmentation"},
    SopClass{"1.2.840.10008.5.1.4.1.1.66.5", "Surface Segmentation"},
    SopClass{"1.2.840.10008.5.1.4.1.1.66.7", "Label Map Segmentation"},
    SopClass{"1.2.840.10008.5.1.4.1.1.67", "Real World Value Mapping"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.11", "Basic Text SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.22", "Enhanced SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.33", "Comprehensive SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.34", "Comprehensive 3D SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.35", "Extensible SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.40", "Procedure Log"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.59", "Key Object Selection"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.65", "Chest CAD SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.67", "X-Ray Radiation Dose SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.70", "Implantation Plan SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.71", "Acquisition Context SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.88.76", "Enhanced X-Ray Radiation Dose SR"},
    SopClass{"1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF"},
    SopClass{"1.2.840.10008.5.1.4.1.1.104.3", "Encapsulated STL"},
    SopClass{"1.2.840.10008.5.1.4.1.1.128", "Positron Emission Tomography Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.481.1", "RT Image"},
    SopClass{"1.2.840.10008.5.1.4.1.1.481.2", "RT Dose"},
    SopClass{"1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set"},
    SopClass{"1.2.840.10008.5.1.4.1.1.481.5", "RT Plan"},
};

}  // namespace

const TransferSyntax* find_transfer_syntax(std::string_view uid) {
    const auto found = std::ranges::find(kTransferSyntaxes, uid, &TransferSyntax::uid);
    return found == kTransferSyntaxes.end() ? nullptr : &*found;
}

std::span<const TransferSyntax> transfer_syntaxes() { return kTransferSyntaxes; }

const SopClass* find_storage_class(std::string_view uid) {
    const auto found = std::ranges::find(kStorageClasses, uid, &SopClass::uid);
    return found == kStorageClasses.end() ? nullptr : &*found;
}

std::span<const SopClass> storage_classes() { return kStorageClasses; }

}  // namespace cardionode
