/**
 * The capabilities of the function: power management, PCI Express, MSI-X, and the Device Serial Number. PCIe 6.0 ch. 7, ref §9, S-95.
 *
 * The link is one of 5 GT/s, the fastest that needs no equalization and so no capability that tells of it, and of 16 lanes (S-123).
 * Virtual machine monitors that put the function on their root bus make an integrated endpoint of it, whose link registers are 0.
 */
import { type ConfigRegister, register, ro, rw, rw1a, rw1c } from './config-space.js';
import type { PciIdentity } from './identity.js';
import { MSIX_BAR, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET } from './msix.js';

/** Where each capability lies, in the order of the list. */
export const Cap = { PM: 0x40, EXP: 0x50, MSIX: 0x90 } as const;
/** Extended capabilities begin here. PCIe 6.0 §7.6.2. */
export const ExtCap = { DSN: 0x100 } as const;

/** Capability ids. PCIe 6.0 §7.5.2.1, §7.5.3.1, §7.7.2.1, §7.9.3.1. */
export const CapId = { PM: 0x01, EXP: 0x10, MSIX: 0x11 } as const;
export const ExtCapId = { DSN: 0x0003 } as const;

/** PMCSR.power_state. D1 and D2 are not supported. */
export const PowerState = { D0: 0, D1: 1, D2: 2, D3HOT: 3 } as const;

/** Link speeds and widths as the link registers encode them. */
const GT_2_5 = 1;
const GT_5 = 2;
const LANES = 16;

function capability(name: string, offset: number, id: number, next: number, section: string): ConfigRegister {
  return register(`${name}_CAP`, offset, 2, section, {
    id: ro(7, 0, id, 'which capability'),
    next: ro(15, 8, next, 'where the next one is; 0 for none'),
  });
}

/** Power management. PCIe 6.0 §7.5.2. */
const POWER_MANAGEMENT: readonly ConfigRegister[] = [
  capability('PM', Cap.PM, CapId.PM, Cap.EXP, 'PCIe 6.0 §7.5.2.1'),
  register('PMC', Cap.PM + 2, 2, 'PCIe 6.0 §7.5.2.1', {
    version: ro(2, 0, 3, 'PCI Power Management 1.2'),
    d1_support: ro(9, 9, 0, 'no D1'),
    d2_support: ro(10, 10, 0, 'no D2'),
    pme_support: ro(15, 11, 0, 'no PME from any state'),
  }),
  register('PMCSR', Cap.PM + 4, 2, 'PCIe 6.0 §7.5.2.2', {
    power_state: rw(1, 0, PowerState.D0, 'D0 or D3hot; others are not taken (S-120)'),
    // 1: a function in software loses nothing when it sleeps, and a sleep that resets would be a second, hidden way to do so.
    no_soft_reset: ro(3, 3, 1, 'D3hot to D0 keeps all state'),
    pme_en: ro(8, 8, 0, 'no PME'),
    pme_status: ro(15, 15, 0, 'no PME'),
  }),
];

/** PCI Express. PCIe 6.0 §7.5.3. */
const PCI_EXPRESS: readonly ConfigRegister[] = [
  capability('EXP', Cap.EXP, CapId.EXP, Cap.MSIX, 'PCIe 6.0 §7.5.3.1'),
  register('EXP_FLAGS', Cap.EXP + 0x02, 2, 'PCIe 6.0 §7.5.3.2', {
    version: ro(3, 0, 2, 'of this capability'),
    type: ro(7, 4, 0, 'endpoint'),
    slot: ro(8, 8, 0, 'of ports only'),
    interrupt: ro(13, 9, 0, 'vector of the capability itself, which has none'),
  }),
  register('DEVCAP', Cap.EXP + 0x04, 4, 'PCIe 6.0 §7.5.3.3', {
    max_payload: ro(2, 0, 1, '256 bytes'),
    phantom_functions: ro(4, 3, 0, 'none'),
    extended_tag: ro(5, 5, 1, '8-bit tags'),
    l0s_latency: ro(8, 6, 7, 'any is acceptable'),
    l1_latency: ro(11, 9, 7, 'any is acceptable'),
    role_based_errors: ro(15, 15, 1, 'required since PCI Express 1.1'),
    flr: ro(28, 28, 1, 'function-level reset (S-46)'),
  }),
  register('DEVCTL', Cap.EXP + 0x08, 2, 'PCIe 6.0 §7.5.3.4', {
    correctable: rw(0, 0, 0, 'report correctable errors'),
    non_fatal: rw(1, 1, 0, 'report non-fatal errors'),
    fatal: rw(2, 2, 0, 'report fatal errors'),
    unsupported: rw(3, 3, 0, 'report unsupported requests'),
    relaxed_ordering: rw(4, 4, 1, 'allowed'),
    max_payload: rw(7, 5, 0, '128 bytes, until software chooses'),
    extended_tag: rw(8, 8, 0, '8-bit tags are used'),
    phantom_functions: ro(9, 9, 0, 'none'),
    aux_power: ro(10, 10, 0, 'none'),
    no_snoop: rw(11, 11, 1, 'allowed'),
    max_read_request: rw(14, 12, 2, '512 bytes, until software chooses'),
    initiate_flr: rw1a(15, 15, 0, 'function-level reset (S-46, S-107)'),
  }),
  register('DEVSTA', Cap.EXP + 0x0a, 2, 'PCIe 6.0 §7.5.3.5', {
    correctable: rw1c(0, 0, 0, 'correctable error'),
    non_fatal: rw1c(1, 1, 0, 'non-fatal error'),
    fatal: rw1c(2, 2, 0, 'fatal error'),
    unsupported: rw1c(3, 3, 0, 'unsupported request'),
    aux_power: ro(4, 4, 0, 'none'),
    transactions_pending: ro(5, 5, 0, 'a reset leaves nothing in flight'),
  }),
  register('LNKCAP', Cap.EXP + 0x0c, 4, 'PCIe 6.0 §7.5.3.6', {
    max_speed: ro(3, 0, GT_5, '5 GT/s'),
    max_width: ro(9, 4, LANES, '16 lanes'),
    aspm: ro(11, 10, 0, 'none'),
    aspm_optionality: ro(22, 22, 1, 'required since PCI Express 3.0'),
    port: ro(31, 24, 0, 'port number'),
  }),
  register('LNKCTL', Cap.EXP + 0x10, 2, 'PCIe 6.0 §7.5.3.7', {
    aspm: rw(1, 0, 0, 'off'),
    read_completion_boundary: rw(3, 3, 0, '64 bytes'),
    common_clock: rw(6, 6, 0, 'same clock at both ends'),
    extended_synch: rw(7, 7, 0, 'for measuring devices'),
  }),
  register('LNKSTA', Cap.EXP + 0x12, 2, 'PCIe 6.0 §7.5.3.8', {
    speed: ro(3, 0, GT_5, '5 GT/s'),
    width: ro(9, 4, LANES, '16 lanes'),
    slot_clock: ro(12, 12, 1, 'the clock of the slot'),
  }),
  register('DEVCAP2', Cap.EXP + 0x24, 4, 'PCIe 6.0 §7.5.3.15', {
    timeout_ranges: ro(3, 0, 0, 'the completion timeout cannot be chosen'),
    timeout_disable: ro(4, 4, 1, 'but switched off'),
  }),
  register('DEVCTL2', Cap.EXP + 0x28, 2, 'PCIe 6.0 §7.5.3.16', {
    timeout_value: ro(3, 0, 0, 'the default'),
    timeout_disable: rw(4, 4, 0, 'no completion timeout'),
  }),
  register('LNKCAP2', Cap.EXP + 0x2c, 4, 'PCIe 6.0 §7.5.3.18', {
    speeds: ro(7, 1, GT_2_5 | GT_5, '2.5 and 5 GT/s, a bit each'),
  }),
  register('LNKCTL2', Cap.EXP + 0x30, 2, 'PCIe 6.0 §7.5.3.19', {
    target_speed: rw(3, 0, GT_5, '5 GT/s'),
  }),
];

/** The capability of MSI-X. PCIe 6.0 §7.7.2, S-93. */
function msix(vectors: number): readonly ConfigRegister[] {
  return [
    capability('MSIX', Cap.MSIX, CapId.MSIX, 0, 'PCIe 6.0 §7.7.2.1'),
    register('MSIX_CONTROL', Cap.MSIX + 2, 2, 'PCIe 6.0 §7.7.2.2', {
      table_size: ro(10, 0, vectors - 1, 'entries - 1'),
      function_mask: rw(14, 14, 0, 'all vectors are masked'),
      enable: rw(15, 15, 0, 'interrupts go by MSI-X'),
    }),
    register('MSIX_TABLE', Cap.MSIX + 4, 4, 'PCIe 6.0 §7.7.2.3', {
      bar: ro(2, 0, MSIX_BAR, 'BAR of the table'),
      offset: ro(31, 3, MSIX_TABLE_OFFSET / 8, 'where in it'),
    }),
    register('MSIX_PBA', Cap.MSIX + 8, 4, 'PCIe 6.0 §7.7.2.4', {
      bar: ro(2, 0, MSIX_BAR, 'BAR of the pending bits'),
      offset: ro(31, 3, MSIX_PBA_OFFSET / 8, 'where in it'),
    }),
  ];
}

/** Device Serial Number. PCIe 6.0 §7.9.3. */
function serialNumber(serial: bigint): readonly ConfigRegister[] {
  return [
    register('DSN_CAP', ExtCap.DSN, 4, 'PCIe 6.0 §7.9.3.1', {
      id: ro(15, 0, ExtCapId.DSN, 'which capability'),
      version: ro(19, 16, 1, 'of this capability'),
      next: ro(31, 20, 0, 'the last one'),
    }),
    register('DSN', ExtCap.DSN + 4, 8, 'PCIe 6.0 §7.9.3.2', { serial: ro(63, 0, serial, 'EUI-64') }),
  ];
}

/** All capabilities, in the order of their offsets. */
export function capabilities(vectors: number, identity: PciIdentity): readonly ConfigRegister[] {
  return [...POWER_MANAGEMENT, ...PCI_EXPRESS, ...msix(vectors), ...serialNumber(identity.serial)];
}
