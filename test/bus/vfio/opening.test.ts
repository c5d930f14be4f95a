import { mkdirSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { admit } from '../../../src/bus/vfio/admission.js';
import { closeFiles, openFunction } from '../../../src/bus/vfio/group.js';
import { listVfio } from '../../../src/bus/vfio/list.js';
import { vfioSettings } from '../../../src/bus/vfio/uri.js';
import { thrown } from '../../driver/rig.js';
import { type ModelFunction, ModelHost } from './model.js';

const { EACCES, EBUSY, EINVAL, ENODEV, ENOENT, EPERM } = constants.errno;
const ADDRESS = '0000:c4:00.1';

const hosts: ModelHost[] = [];
const host = (functions?: ModelFunction[]) => {
  const made = new ModelHost('', functions);
  hosts.push(made);
  return made;
};
afterEach(() => Promise.all(hosts.splice(0).map((one) => one.end())));

describe('vfio: URIs', () => {
  it.each([
    ['vfio:0000:c4:00.1', '0000:c4:00.1'],
    ['vfio:c4:00.1', '0000:c4:00.1'],
    ['vfio:10000:C4:1f.7', '10000:c4:1f.7'],
  ])('%s is %s', (uri, address) => {
    expect(vfioSettings(uri)).toEqual({ uri, address, vectors: undefined, mmio: 'auto', hugepages: false, arenaBytes: 4 * 2 ** 20 });
  });

  it('options are read', () => {
    expect(vfioSettings('vfio:c4:00.1?vectors=4&mmio=call&hugepages=1&arenaBytes=2097152')).toMatchObject({
      vectors: 4,
      mmio: 'call',
      hugepages: true,
      arenaBytes: 2 * 2 ** 20,
    });
  });

  it.each(['vfio:', 'vfio:c4', 'vfio:c4:00', 'vfio:c4:20.1', 'vfio:c4:00.8', 'vfio:../../etc', 'vfio:0000:c4:00.1#vf1', 'vfio:c4:00.1/x'])(
    'refuses %s',
    (uri) => {
      expect(thrown(() => vfioSettings(uri))).toMatchObject({ code: 'ERR_SDXI_URI', hint: expect.stringContaining('vfio:0000:c4:00.1') });
    },
  );

  it.each(['vectors=1', 'vectors=2049', 'vectors=x', 'mmio=maybe', 'hugepages=2', 'arenaBytes=4096', 'nonsense=1'])(
    'refuses ?%s',
    (option) => {
      expect(thrown(() => vfioSettings(`vfio:c4:00.1?${option}`))).toMatchObject({ code: 'ERR_SDXI_ARGUMENT', hint: expect.any(String) });
    },
  );
});

describe('a PCI function that cannot be opened says why, and what helps', () => {
  it('there is none: names those that are', () => {
    const error = thrown(() => admit(host(), '0000:01:00.0'));
    expect(error).toMatchObject({ code: 'ERR_SDXI_URI', message: 'there is no PCI function 0000:01:00.0' });
    expect(error.hint).toContain(ADDRESS);
    expect(thrown(() => admit(host([]), ADDRESS)).hint).toContain('lspci -Dnd ::1201');
  });

  it('another class', () => {
    const error = thrown(() => admit(host([{ address: ADDRESS, classCode: 0x010802, driver: 'nvme', group: 7 }]), ADDRESS));
    expect(error).toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED', message: expect.stringContaining('0x010802') });
  });

  it('a class that cannot be read', () => {
    const error = thrown(() => admit(host([{ address: ADDRESS, classCode: Number.NaN, driver: 'vfio-pci', group: 7 }]), ADDRESS));
    expect(error).toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED', message: expect.stringContaining('of class unknown,') });
  });

  it.each([
    ['vendor_id\t: GenuineIntel\n', 'intel_iommu=on'],
    ['vendor_id\t: AuthenticAMD\n', 'amd_iommu=on'],
    ['', 'intel_iommu=on'],
  ])('no IOMMU group, on %j: names %s', (cpuinfo, parameter) => {
    const machine = host([{ address: ADDRESS }]);
    machine.files.cpuinfo = cpuinfo;
    expect(thrown(() => admit(machine, ADDRESS))).toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED', hint: expect.stringContaining(parameter) });
  });

  it('bound to another driver: prints the commands, in order, and runs none', () => {
    const machine = host([{ address: ADDRESS, driver: 'sdxi', group: 7 }]);
    const error = thrown(() => admit(machine, ADDRESS));
    expect(error).toMatchObject({
      code: 'ERR_SDXI_STATE',
      message: `${ADDRESS} belongs to the driver sdxi: a vfio: bus needs it bound to vfio-pci`,
      hint: `as root: modprobe vfio-pci; echo vfio-pci > /sys/bus/pci/devices/${ADDRESS}/driver_override; echo ${ADDRESS} > /sys/bus/pci/devices/${ADDRESS}/driver/unbind; echo ${ADDRESS} > /sys/bus/pci/drivers_probe`,
    });
    expect(machine.sysfs.find(ADDRESS)?.driver).toBe('sdxi');
  });

  it('bound to none: nothing to unbind', () => {
    const error = thrown(() => admit(host([{ address: ADDRESS, group: 7 }]), ADDRESS));
    expect(error.message).toContain('has no driver');
    expect(error.hint).not.toContain('unbind');
  });

  const opening = (prepare: (machine: ModelHost) => void) => {
    const machine = host();
    prepare(machine);
    const error = thrown(() => openFunction(machine, admit(machine, ADDRESS)));
    expect([...machine.open_]).toEqual([]);
    return error;
  };

  it.each([
    ['vfio/vfio', ENOENT, 'ERR_SDXI_UNSUPPORTED', 'modprobe vfio-pci'],
    ['vfio/vfio', ENODEV, 'ERR_SDXI_UNSUPPORTED', 'modprobe vfio-pci'],
    ['vfio/vfio', EACCES, 'ERR_SDXI_SYSTEM', 'chown'],
    ['vfio/7', ENOENT, 'ERR_SDXI_UNSUPPORTED', 'driver_override'],
    ['vfio/7', EACCES, 'ERR_SDXI_SYSTEM', 'udev'],
    ['vfio/7', EBUSY, 'ERR_SDXI_BUSY', 'fuser -v'],
    ['vfio/7', EPERM, 'ERR_SDXI_SYSTEM', 'chown'],
  ])('open of %s ends with errno %i: %s, "%s"', (path, errno, code, hint) => {
    const error = opening((machine) => machine.results.set(path, -errno));
    expect(error).toMatchObject({ code, hint: expect.stringContaining(hint) });
    expect(`${error.message} ${error.hint}`).toContain(`/dev/${path}`);
  });

  it('a kernel with iommufd alone', () => {
    const error = opening((machine) => {
      machine.results.set('vfio/vfio', -ENOENT);
      mkdirSync(join(machine.dev, 'vfio/devices'));
    });
    expect(error).toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED', message: expect.stringContaining('iommufd') });
  });

  it('no-IOMMU mode is refused', () => {
    const error = opening((machine) => writeFileSync(join(machine.dev, 'vfio/noiommu-7'), ''));
    expect(error).toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED', message: expect.stringContaining('no-IOMMU') });
  });

  it.each([
    ['another version of VFIO', 100, 1, 'ERR_SDXI_UNSUPPORTED', /version/],
    ['no type1v2', 101, 0, 'ERR_SDXI_UNSUPPORTED', /vfio_iommu_type1/],
    ['no interrupt remapping', 102, -EPERM, 'ERR_SDXI_UNSUPPORTED', /allow_unsafe_interrupts/],
    ['an IOMMU that refuses', 102, -EINVAL, 'ERR_SDXI_SYSTEM', /dmesg/],
    ['a group that has a container', 104, -EINVAL, 'ERR_SDXI_SYSTEM', /dmesg/],
    ['a function that has just left', 106, -ENODEV, 'ERR_SDXI_STATE', /driver_override/],
    ['a driver that cannot open it', 106, -EINVAL, 'ERR_SDXI_SYSTEM', /dmesg/],
  ])('%s', (_, request, result, code, text) => {
    const error = opening((machine) => machine.results.set(request, result));
    expect(error.code).toBe(code);
    expect(`${error.message} ${error.hint}`).toMatch(text);
  });

  it('a group that others share: names them, their drivers and what to do', () => {
    const error = opening((machine) => {
      machine.viable = false;
      machine.addFunction({ address: '0000:c4:00.0', classCode: 0x020000, driver: 'ice', group: 7 });
      machine.addFunction({ address: '0000:c4:00.2', classCode: 0x060400, driver: 'pcieport', group: 7 });
      machine.addFunction({ address: '0000:c4:00.3', classCode: 0x020000, group: 7 });
    });
    expect(error).toMatchObject({ code: 'ERR_SDXI_STATE', fields: { others: ['0000:c4:00.0'] } });
    expect(error.message).toContain('0000:c4:00.0 (1e5d:5d01, driver ice)');
    expect(error.hint).toContain('echo 0000:c4:00.0 > /sys/bus/pci/devices/0000:c4:00.0/driver/unbind');
  });

  it('opens and closes what is all right', () => {
    const machine = host();
    const files = openFunction(machine, admit(machine, ADDRESS));
    expect(machine.open_.size).toBe(3);
    closeFiles(machine, files);
    expect(machine.open_.size).toBe(0);
    expect(thrown(() => machine.close(files.device)).message).toContain('closed twice');
  });
});

describe('what there is', () => {
  it('is listed with what has to be done first, and nothing is opened', () => {
    const machine = host([
      { address: ADDRESS, driver: 'vfio-pci', group: 7 },
      { address: '0000:c4:00.2', driver: 'sdxi', group: 8 },
      { address: '0000:c4:00.3' },
      { address: '0000:00:1f.0', classCode: 0x060100, group: 1 },
    ]);
    mkdirSync(join(machine.dev, 'vfio'), { recursive: true });
    writeFileSync(join(machine.dev, 'vfio/vfio'), '');
    const withoutGroup = listVfio(machine);
    writeFileSync(join(machine.dev, 'vfio/7'), '');
    expect(listVfio(machine)).toEqual([
      { uri: `vfio:${ADDRESS}`, description: 'PCI function 1e5d:5d01, driver vfio-pci, IOMMU group 7', hint: undefined },
      {
        uri: 'vfio:0000:c4:00.2',
        description: 'PCI function 1e5d:5d01, driver sdxi, IOMMU group 8',
        hint: expect.stringContaining('driver/unbind'),
      },
      {
        uri: 'vfio:0000:c4:00.3',
        description: 'PCI function 1e5d:5d01, no driver, no IOMMU group',
        hint: expect.stringContaining('iommu'),
      },
    ]);
    expect(withoutGroup[0]?.hint).toContain('/vfio/7 cannot be opened (ENOENT)');
    expect(machine.open_.size).toBe(0);
  });
});
