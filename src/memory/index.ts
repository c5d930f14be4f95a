export { Access, ADDRESS_LIMIT, AddressSpace, AddressSpaces, Mapping, NO_PASID, type Refusal } from './address-space.js';
export { Arena, type Block, bytesOf, type RegionSource } from './arena.js';
export { RangeAllocator } from './ranges.js';
export {
  allocateRegion,
  type FilePart,
  HUGE_PAGE_BYTES,
  openRegion,
  PAGE_BYTES,
  type PinnableMemory,
  pinRegion,
  type Region,
} from './region.js';
export { WINDOW_MAX, Window } from './window.js';
