/**
 * What the reference asks for and no test of this project proves yet, each with the reason. Whoever adds such a test deletes
 * the line: the meta-test fails for exemptions that are not needed.
 */
export const EXEMPTIONS: Readonly<Record<string, string>> = {
  'S-29': 'RKeys: AKey and RKey have to agree on the PASID. There is one function, and every tgt_sfunc ≠ 0 fails with step 12 (S-56)',
  'S-38': 'RKeys: the own sfunc as a remote target needs an RKey table that is looked up',
  'S-55': 'virtual functions: without SR-IOV every vf = 1 is malformed (S-96)',
  'S-57': 'RKeys: interrupts at another function of the group',
  'S-58': 'RKeys: faults in the tables of a target function',
  'S-68': 'outside SDXI 1.0 and not modelled, by its own words',
  'S-93': 'PCI: the place of the MSI-X table; the embedded bus has no BARs',
  'S-95': 'PCI: identity and capabilities; the embedded bus has no configuration space',
  'S-97': 'function groups: which functions of a group reach each other',
  'S-98': 'function groups: whose limits count when functions of a group differ',
  'S-99': 'function groups: a target function that stops while a remote operation runs',
};
