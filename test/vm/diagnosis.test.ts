import { describe, expect, it } from 'vitest';
import { diagnosis } from '../../src/vm/diagnosis.js';

describe('what QEMU says of a function that it cannot have', () => {
  it.each([
    [`qemu-system-x86_64: -device {…}: Failed to connect to '/tmp/s': Connection refused`, /nobody listens at \/tmp\/s: .*sdxi serve/],
    [`qemu-system-x86_64: -device {…}: Failed to connect to '/tmp/s': Permission denied`, /\/tmp\/s .* same user/],
    [
      'qemu-system-x86_64: -device {…}: vfio vfio-user:/tmp/s: Unable to write to socket: Broken pipe',
      /at \/tmp\/s .*one client at a time/,
    ],
    ['qemu-system-x86_64: -device {"socket":{"path":"/tmp/s"}}: failed to read header: EOF', /at \/tmp\/s .*one client at a time/],
    ["qemu-system-x86_64: util/error.c:62: error_setv: Assertion '*errp == NULL' failed.", /one client at a time/],
  ])('%s', (errors, means) => {
    expect(diagnosis(errors)).toMatch(means);
  });

  it('nothing of what it does not know', () => {
    expect(diagnosis('qemu-system-x86_64: Machine type not supported')).toBeUndefined();
  });
});
