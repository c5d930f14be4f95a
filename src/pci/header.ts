/** The Type 0 header. PCIe 6.0 §7.5.1, ref §9, S-95. */
import { type ConfigRegister, register, ro, rw, rw1c } from './config-space.js';
import type { PciIdentity, PciShape } from './identity.js';
import { MSIX_BAR, MSIX_BAR_BYTES } from './msix.js';

/** SDXI, the only thing that drivers match. Ref §9. */
export const CLASS_SDXI = 0x120100;

/** Sizes of the BARs by number; a 64-bit BAR takes two numbers, and the second has none of its own. Ref §2.1, S-93. */
export function barSizes({ bar0Bytes, bar2Bytes }: PciShape): readonly number[] {
  const sizes = [bar0Bytes, 0, bar2Bytes, 0, 0, 0];
  sizes[MSIX_BAR] = MSIX_BAR_BYTES;
  return sizes;
}

/** A 64-bit memory BAR: the address bits below its size are 0, which is how software finds the size. */
function bar(number: number, bytes: number, prefetchable: 0 | 1): ConfigRegister {
  return register(`BAR${number}`, 0x10 + 4 * number, 8, 'PCIe 6.0 §7.5.1.2.1', {
    space: ro(0, 0, 0, 'memory'),
    type: ro(2, 1, 2, '64-bit address'),
    prefetchable: ro(3, 3, prefetchable, 'reads have no side effects'),
    address: rw(63, Math.log2(bytes), 0, 'where it lies'),
  });
}

/** @param firstCapability offset of the first capability */
export function header(shape: PciShape, identity: PciIdentity, firstCapability: number): readonly ConfigRegister[] {
  return [
    register('VENDOR_ID', 0x00, 2, 'PCIe 6.0 §7.5.1.1.1', { id: ro(15, 0, identity.vendorId, 'manufacturer') }),
    register('DEVICE_ID', 0x02, 2, 'PCIe 6.0 §7.5.1.1.2', { id: ro(15, 0, identity.deviceId, 'product') }),
    register('COMMAND', 0x04, 2, 'PCIe 6.0 §7.5.1.1.3', {
      io_space: ro(0, 0, 0, 'there are no I/O BARs'),
      memory_space: rw(1, 1, 0, 'BARs answer'),
      bus_master: rw(2, 2, 0, 'the function may access memory and send interrupts (S-47, S-94)'),
      parity_error_response: rw(6, 6, 0, 'parity errors are noted in STATUS'),
      serr_enable: rw(8, 8, 0, 'errors are reported to the root complex'),
      interrupt_disable: rw(10, 10, 0, 'no INTx; there is none anyway'),
    }),
    // The model has no bus on which these errors could happen: the bits are as software expects them, and stay 0.
    register('STATUS', 0x06, 2, 'PCIe 6.0 §7.5.1.1.4', {
      interrupt_status: ro(3, 3, 0, 'an INTx is pending'),
      capabilities_list: ro(4, 4, 1, 'CAPABILITIES_POINTER is valid'),
      master_data_parity_error: rw1c(8, 8, 0, 'poisoned data, sent or received'),
      signaled_target_abort: rw1c(11, 11, 0, 'completer abort, sent'),
      received_target_abort: rw1c(12, 12, 0, 'completer abort, received'),
      received_master_abort: rw1c(13, 13, 0, 'unsupported request, received'),
      signaled_system_error: rw1c(14, 14, 0, 'an error message was sent'),
      detected_parity_error: rw1c(15, 15, 0, 'poisoned data, received'),
    }),
    register('REVISION_ID', 0x08, 1, 'PCIe 6.0 §7.5.1.1.5', { id: ro(7, 0, identity.revision, 'revision') }),
    register('CLASS_CODE', 0x09, 3, 'PCIe 6.0 §7.5.1.1.6, ref §9', { code: ro(23, 0, CLASS_SDXI, 'base class, subclass, interface') }),
    register('CACHE_LINE_SIZE', 0x0c, 1, 'PCIe 6.0 §7.5.1.1.7', { size: rw(7, 0, 0, 'without effect, for old software') }),
    register('LATENCY_TIMER', 0x0d, 1, 'PCIe 6.0 §7.5.1.1.8', { timer: ro(7, 0, 0, 'not in PCI Express') }),
    register('HEADER_TYPE', 0x0e, 1, 'PCIe 6.0 §7.5.1.1.9', {
      layout: ro(6, 0, 0, 'type 0'),
      multi_function: ro(7, 7, 0, 'a device of its own'),
    }),
    register('BIST', 0x0f, 1, 'PCIe 6.0 §7.5.1.1.10', { bist: ro(7, 0, 0, 'no self-test') }),
    bar(0, shape.bar0Bytes, 1),
    bar(2, shape.bar2Bytes, 1),
    bar(MSIX_BAR, MSIX_BAR_BYTES, 0),
    register('CARDBUS_CIS', 0x28, 4, 'PCIe 6.0 §7.5.1.2.2', { pointer: ro(31, 0, 0, 'not in PCI Express') }),
    register('SUBSYSTEM_VENDOR_ID', 0x2c, 2, 'PCIe 6.0 §7.5.1.2.3', { id: ro(15, 0, identity.subsystemVendorId, 'who sells it') }),
    register('SUBSYSTEM_ID', 0x2e, 2, 'PCIe 6.0 §7.5.1.2.3', { id: ro(15, 0, identity.subsystemId, 'as what') }),
    register('EXPANSION_ROM', 0x30, 4, 'PCIe 6.0 §7.5.1.2.4, S-95', { address: ro(31, 0, 0, 'no ROM') }),
    register('CAPABILITIES_POINTER', 0x34, 1, 'PCIe 6.0 §7.5.1.1.11', { pointer: ro(7, 0, firstCapability, 'first capability') }),
    register('INTERRUPT_LINE', 0x3c, 1, 'PCIe 6.0 §7.5.1.1.12', { line: rw(7, 0, 0, 'for software alone') }),
    register('INTERRUPT_PIN', 0x3d, 1, 'PCIe 6.0 §7.5.1.1.13, S-95', { pin: ro(7, 0, 0, 'no INTx') }),
    register('MIN_GNT', 0x3e, 1, 'PCIe 6.0 §7.5.1.2.5', { min_gnt: ro(7, 0, 0, 'not in PCI Express') }),
    register('MAX_LAT', 0x3f, 1, 'PCIe 6.0 §7.5.1.2.5', { max_lat: ro(7, 0, 0, 'not in PCI Express') }),
  ];
}
