"""Renders an overlay of compose/k8s as kustomize does, for machines that have no kubectl.

Knows what those files use, and refuses everything else: resources, components, namespace, images with a new tag, and
config maps of literals and of files of variables, with `behavior: merge`, whose names end in a digest of what they
hold. The digest is not kustomize's own; nothing but its sameness in every reference depends on it.
"""

import hashlib
import json
import pathlib
import sys

import yaml

KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "images", "configMapGenerator"}
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "ClusterTriggerAuthentication"}
REFERENCES = {"configMapRef", "configMapKeyRef", "configMap"}


def load(path):
    return [document for document in yaml.load_all(path.read_text(), yaml.CSafeLoader) if document]


def variables(folder, generator):
    values = {}
    for name in generator.get("envs", []):
        for line in (folder / name).read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                key, _, value = line.partition("=")
                values[key] = value
    for literal in generator.get("literals", []):
        key, _, value = literal.partition("=")
        values[key] = value
    return values


class Overlay:
    def __init__(self):
        self.objects, self.generated = [], {}

    def read(self, folder):
        (kustomization,) = load(folder / "kustomization.yaml")
        unknown = kustomization.keys() - KNOWN
        if unknown:
            sys.exit(f"{folder}: {sorted(unknown)} is not known here: use kubectl kustomize, or teach this script")
        for name in kustomization.get("resources", []) + kustomization.get("components", []):
            path = folder / name
            if path.is_dir():
                self.read(path.resolve())
            else:
                self.objects += load(path)
        for generator in kustomization.get("configMapGenerator", []):
            name = generator["name"]
            if (name in self.generated) != (generator.get("behavior") == "merge"):
                sys.exit(f"{folder}: {name} is to be merged with one that is there, or made anew")
            self.generated.setdefault(name, {}).update(variables(folder, generator))
        for image in kustomization.get("images", []):
            self.each(lambda node: retag(node, image))
        if "namespace" in kustomization:
            self.namespace = kustomization["namespace"]

    def each(self, change):
        def walk(node):
            if isinstance(node, dict):
                change(node)
            for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
                walk(child)
        walk(self.objects)

    def render(self):
        for name, values in sorted(self.generated.items()):
            digest = hashlib.sha256(json.dumps([name, values], sort_keys=True).encode()).hexdigest()[:10]
            self.each(lambda node: refer(node, name, f"{name}-{digest}"))
            metadata = {"name": f"{name}-{digest}"}
            self.objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": values})
        for made in self.objects:
            if made["kind"] not in CLUSTER_WIDE:
                made["metadata"]["namespace"] = self.namespace
            for subject in made.get("subjects", []):
                subject["namespace"] = self.namespace
        return self.objects


def retag(node, image):
    if str(node.get("image", "")).split(":")[0] == image["name"]:
        node["image"] = f"{image['name']}:{image['newTag']}"


def refer(node, name, to):
    for key in REFERENCES & node.keys():
        if isinstance(node[key], dict) and node[key].get("name") == name:
            node[key]["name"] = to


overlay = Overlay()
overlay.read(pathlib.Path(sys.argv[1]).resolve())
yaml.safe_dump_all(overlay.render(), sys.stdout, sort_keys=False)
