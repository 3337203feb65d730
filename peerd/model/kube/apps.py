"""Kinds of the apps group: an istiod's own Deployment, as far as its flags go (decision D41)."""

from peerd.model.kube.meta import KubeObject, KubeRecord


class EnvVar(KubeRecord, frozen=True):
    """A variable; `value_from` is anything but None where the value is written elsewhere."""

    name: str = ""
    value: str = ""
    value_from: dict[str, object] | None = None


class DeployedContainer(KubeRecord, frozen=True):
    """Only its environment."""

    name: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[dict[str, object], ...] = ()


class DeployedPodSpec(KubeRecord, frozen=True):
    """Only the containers."""

    containers: tuple[DeployedContainer, ...] = ()


class PodTemplate(KubeRecord, frozen=True):
    """What Pods are made from."""

    spec: DeployedPodSpec = DeployedPodSpec()


class DeploymentSpec(KubeRecord, frozen=True):
    """Only the template."""

    template: PodTemplate = PodTemplate()


class DeploymentStatus(KubeRecord, frozen=True):
    """Whether all Pods are made from the present template."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0


class Deployment(KubeObject, frozen=True):
    """A Deployment."""

    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()
