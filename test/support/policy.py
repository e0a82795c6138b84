"""The SROS 2 policy that the package brings."""

import xml.etree.ElementTree as ElementTree

from support.paths import ROOT

POLICY = ROOT / "config" / "sros2_policy.xml"
SEGMENTATION, OCCUPANCY = "/segmentation_node", "/occupancy_node"


def allowed(name: str, what: str, action: str) -> set[str]:
    """Return the names that a node's enclave allows, with ~ written out."""
    path = f".//enclave[@path='{name}']/profiles/profile/{what}[@{action}='ALLOW']"
    lists = ElementTree.parse(POLICY).iterfind(path)
    return {(entry.text or "").replace("~", name, 1) for names in lists for entry in names}
