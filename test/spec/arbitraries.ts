/** Random values for any table of `spec/`, for the property tests. */
import fc from 'fast-check';
import type { AnyLayout, AnyValue, ERRLOG_HD_ENT, Field } from '../../src/spec/index.js';
import * as spec from '../../src/spec/index.js';

/** Every layout that the package exports. */
export const LAYOUTS: AnyLayout[] = Object.values(spec).filter(
  (value): value is typeof ERRLOG_HD_ENT => typeof value === 'object' && value !== null && 'byteLength' in value && 'encode' in value,
);

function fieldValue(field: Field): fc.Arbitrary<AnyValue> {
  const width = field.highBit - field.lowBit + 1;
  if (field.kind === 'bytes') return fc.uint8Array({ minLength: width / 8, maxLength: width / 8 });
  const stored = fc.oneof(fc.bigInt({ min: 0n, max: (1n << BigInt(width)) - 1n }), fc.constantFrom(0n, 1n, (1n << BigInt(width)) - 1n));
  if (field.kind === 'number') return stored.map((v) => Number(v) + field.bias);
  return stored.map((v) => (field.address ? v << BigInt(field.lowBit) : v));
}

/** Random values for all fields of a layout. */
export function fieldValues(layout: AnyLayout): fc.Arbitrary<Record<string, AnyValue>> {
  return fc.record(Object.fromEntries(Object.entries(layout.fields).map(([name, field]) => [name, fieldValue(field)])));
}

/** Random bytes of a structure. */
export function structureBytes(layout: AnyLayout): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: layout.byteLength, maxLength: layout.byteLength });
}

/** Words over a copy of the bytes, which need not be aligned themselves. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(Uint8Array.from(bytes).buffer);
}
