/**
 * The shell of a function on PCI Express: configuration space, capabilities, MSI-X. Pure: what happens outside goes through {@link PciPort}.
 */
export { Cap, CapId, capabilities, ExtCap, ExtCapId, PowerState } from './capabilities.js';
export {
  CONFIG_BYTES,
  type ConfigAccess,
  type ConfigField,
  type ConfigFields,
  type ConfigRegister,
} from './config-space.js';
export { CLASS_SDXI, header } from './header.js';
export { DEFAULT_IDENTITY, type PciIdentity, type PciShape } from './identity.js';
export { MSIX_BAR, MSIX_BAR_BYTES, MSIX_ENTRY, MSIX_ENTRY_BYTES, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET } from './msix.js';
export { type MsixView, type PciCounters, PciFunction, type PciPort } from './pci-function.js';
export { PCI_STATE_VERSION, type PciState } from './state.js';
