"""A subscription follows what the publishers offer; it is made again only when that changes."""

from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image
from support.graph import Graph

from seg_perception.nodes.subscription import NewestSubscription


def test_a_subscription_fits_the_publishers_that_are_there_from_its_first_moment(
    ros: Graph,
) -> None:
    ros.camera(topic="/fast", reliable=False)
    ros.wait(lambda: ros.node.count_publishers("/fast"))
    group = ros.node.default_callback_group
    subscription = NewestSubscription(
        ros.node, Image, "/fast", lambda message: None, reliability="auto", group=group
    )
    offers = ros.node.get_subscriptions_info_by_topic("/fast")
    assert [o.qos_profile.reliability for o in offers] == [ReliabilityPolicy.BEST_EFFORT]
    subscription.refresh()
    assert [o.endpoint_gid for o in ros.node.get_subscriptions_info_by_topic("/fast")] == [
        offers[0].endpoint_gid
    ]
    subscription.destroy()
